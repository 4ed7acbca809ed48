// Controls for the six limits. Empty means no limit.
import { html } from "../html.js";
import { LIMITS } from "../limits.js";
import { Field } from "./field.js";

export function LimitFields({ texts, set, legend = "Limits" }) {
  const typed = (name) => (event) => set({ ...texts, [name]: event.currentTarget.value });
  return html`<fieldset class="limit-fields">
    <legend>${legend} <span class="muted">(empty means none)</span></legend>
    ${LIMITS.map(({ name, label, unit, step }) => html`<${Field} key=${name} name=${name} label=${label} hint=${unit}>
      ${(attributes) => html`<input ...${attributes} type="number" min="0" step=${step} inputmode="decimal"
        value=${texts[name]} onInput=${typed(name)} />`}
    <//>`)}
  </fieldset>`;
}
