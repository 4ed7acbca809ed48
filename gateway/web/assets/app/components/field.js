// A labelled control with a hint and a fault that screen readers connect with it.
import { createContext, html, useContext, useId } from "../html.js";

// What is wrong with the fields of a form, by their names.
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
