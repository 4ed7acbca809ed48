// A form in a dialog: it is sent once at a time, and what went wrong stands above the buttons.
import { html, useState } from "../html.js";
import { Dialog, Problem } from "./dialog.js";

// `send()` does the work; the dialog closes when that has worked, unless it gives true.
export function FormDialog({ title, action, send, onClose, wide = false, children }) {
  const [state, setState] = useState({ busy: false, error: null });
  const submit = async (event) => {
    event.preventDefault();
    if (state.busy) return;
    setState({ busy: true, error: null });
    try {
      if ((await send()) !== true) onClose();
    } catch (error) {
      setState({ busy: false, error });
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose} wide=${wide}>
    <form onSubmit=${submit}>
      ${children}
      <${Problem} error=${state.error} />
      <div class="dialog-actions">
        <button type="button" onClick=${onClose}>Cancel</button>
        <button class="main" disabled=${state.busy}>${state.busy ? "Working …" : action}</button>
      </div>
    </form>
  <//>`;
}
