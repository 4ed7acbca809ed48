// A labelled control with a hint and a fault that screen readers connect with it.
import { html, useId } from "../html.js";

// `children` draws the control: (attributes) => vnode, with id and aria attributes to spread.
export function Field({ label, hint, fault, children }) {
  const id = useId();
  const described = [hint && `${id}-hint`, fault && `${id}-fault`].filter(Boolean).join(" ");
  const attributes = {
    id,
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
