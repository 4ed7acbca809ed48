// A form in a dialog: it is sent once at a time, and what went wrong stands above the buttons, or
// beside the field that it is about.
import { html, useState } from "../html.js";
import { Dialog, Problem } from "./dialog.js";
import { Faults } from "./field.js";

const QUIET = { busy: false, error: null, faults: {} };

// `send()` does the work; the dialog closes when that has worked, unless it gives true.
export function FormDialog({ title, action, send, onClose, wide = false, children }) {
  const [state, setState] = useState(QUIET);
  const submit = async (event) => {
    event.preventDefault();
    if (state.busy) return;
    const { elements } = event.currentTarget;
    setState({ ...QUIET, busy: true });
    try {
      if ((await send()) !== true) onClose();
    } catch (error) {
      setState({ busy: false, ...placed(error, elements) });
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose} wide=${wide}>
    <form onSubmit=${submit}>
      <${Faults.Provider} value=${state.faults}>${children}<//>
      <${Problem} error=${state.error} />
      <div class="dialog-actions">
        <button type="button" onClick=${onClose}>Cancel</button>
        <button class="main" disabled=${state.busy}>${state.busy ? "Working …" : action}</button>
      </div>
    </form>
  <//>`;
}

// An error whose faults all have a field of this form says just which; the fields say the rest.
function placed(error, elements) {
  const fields = Object.keys(error.faults ?? {}).map((name) => elements.namedItem(name));
  if (!fields.length || fields.includes(null)) return { error, faults: {} };
  fields[0].focus();
  const labels = fields.map((field) => field.labels[0].textContent);
  const message = `Nothing was changed: look at ${labels.join(", ")}.`;
  return { error: { message, requestId: error.requestId }, faults: error.faults };
}
