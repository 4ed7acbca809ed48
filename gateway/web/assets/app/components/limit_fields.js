// Controls for the six limits. Empty means no limit.
import { html } from "../html.js";
import { LIMITS } from "../limits.js";
import { TextField } from "./field.js";

export function LimitFields({ texts, set, legend = "Limits" }) {
  return html`<fieldset class="limit-fields">
    <legend>${legend} <span class="muted">(empty means no limit)</span></legend>
    ${LIMITS.map(({ name, label, unit, step }) => html`<${TextField} key=${name} name=${name} label=${label} hint=${unit}
      value=${texts[name]} set=${(text) => set({ ...texts, [name]: text })} type="number" min="0" step=${step} inputmode="decimal" />`)}
  </fieldset>`;
}
