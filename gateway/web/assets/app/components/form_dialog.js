// A form in a dialog. It is sent once at a time. Errors appear beside their fields, or above the
// buttons if they belong to no field of the form.
import { html, useState } from "../html.js";
import { Dialog, Problem } from "./dialog.js";
import { Faults } from "./field.js";

const QUIET = { busy: false, error: null, faults: {} };

// `send()` does the work. The dialog closes on success, unless `send` returns true.
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

// If all faults belong to fields of this form, the message only names the fields.
function placed(error, elements) {
  const fields = Object.keys(error.faults ?? {}).map((name) => elements.namedItem(name));
  if (!fields.length || fields.includes(null)) return { error, faults: {} };
  fields[0].focus();
  const labels = fields.map((field) => field.labels[0].textContent);
  const message = `Nothing was changed. Check ${labels.join(", ")}.`;
  return { error: { message, requestId: error.requestId }, faults: error.faults };
}
