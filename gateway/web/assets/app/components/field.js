// A labelled control with a hint and an error message that screen readers connect with it.
import { createContext, html, useContext, useId } from "../html.js";

// Error messages of a form's fields, by name.
export const Faults = createContext({});

// `children` draws the control: (attributes) => vnode, with id, name and aria attributes to spread.
export function Field({ name, label, hint, children }) {
  const id = useId();
  const fault = useContext(Faults)[name];
  const described = [hint && `${id}-hint`, fault && `${id}-fault`].filter(Boolean).join(" ");
  const attributes = {
    id,
    name,
    "aria-describedby": described || undefined,
    "aria-invalid": fault ? "true" : undefined,
  };
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${children(attributes)}
    ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
    ${fault && html`<p class="fault" id=${`${id}-fault`}>${fault}</p>`}
  </div>`;
}

// A field with an ordinary input. `set` gets the text; further properties go to the input.
export function TextField({ name, label, hint, value, set, ...input }) {
  return html`<${Field} name=${name} label=${label} hint=${hint}>
    ${(attributes) => html`<input ...${attributes} autocomplete="off" spellcheck=${false} ...${input}
      value=${value} onInput=${(event) => set(event.currentTarget.value)} />`}
  <//>`;
}
