// Dialogs use the browser's own element, which keeps the focus inside.
import { classes, html, useEffect, useId, useRef, useState } from "../html.js";

// The first focus. Never the close button: a second Enter would close the dialog.
const FIRST = "input, select, textarea, .copy, .dialog-actions button";

// Open while it is rendered. Escape and the close button call `onClose`. A `firm` dialog has neither,
// because its content would be lost: the caller provides a button that closes it.
export function Dialog({ title, onClose, wide = false, firm = false, children }) {
  const element = useRef(null);
  const id = useId();
  useEffect(() => {
    const opener = document.activeElement;
    const dialog = element.current;
    dialog.showModal();
    dialog.querySelector(FIRST)?.focus();
    return () => {
      dialog.close();
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, []);
  const leave = (event) => {
    event.preventDefault();
    if (!firm) onClose();
  };
  // Browsers close a dialog after a second Escape, unless the key event is stopped.
  const onKeyDown = (event) => event.key === "Escape" && leave(event);
  return html`<dialog ref=${element} class=${classes(wide && "wide")} aria-labelledby=${id} onKeyDown=${onKeyDown} onCancel=${leave}>
    <header class="dialog-head">
      <h2 id=${id}>${title}</h2>
      ${!firm && html`<button type="button" class="quiet" aria-label="Close" onClick=${onClose}>✕</button>`}
    </header>
    ${children}
  </dialog>`;
}

// Asks for confirmation. `act` may take time and may fail: then its message is shown.
export function Confirm({ title, children, action, danger = false, act, onClose }) {
  const [state, setState] = useState({ busy: false, error: null });
  const go = async () => {
    setState({ busy: true, error: null });
    try {
      await act();
      onClose();
    } catch (error) {
      setState({ busy: false, error });
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    ${children}
    <${Problem} error=${state.error} />
    <div class="dialog-actions">
      <button type="button" onClick=${onClose}>Cancel</button>
      <button type="button" class=${danger ? "danger" : "main"} disabled=${state.busy} onClick=${go}>
        ${state.busy ? "Working …" : action}
      </button>
    </div>
  <//>`;
}

// The error of a form or dialog, which screen readers announce at once; nothing if it is null.
export function Problem({ error }) {
  return html`<div role="alert" class="problem">
    ${error && html`<p>${error.message}${error.requestId && html` <span class="muted">(request <code>${error.requestId}</code>)</span>`}</p>`}
  </div>`;
}
