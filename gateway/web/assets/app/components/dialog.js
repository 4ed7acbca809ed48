// Dialogs are the browser's own: it keeps the focus inside and gives it back at the end.
import { classes, html, useEffect, useId, useRef, useState } from "../html.js";

// Open while it is drawn. `onClose` is called for Escape and the close button.
export function Dialog({ title, onClose, wide = false, children }) {
  const element = useRef(null);
  const id = useId();
  useEffect(() => {
    const opener = document.activeElement;
    const dialog = element.current;
    dialog.showModal();
    return () => {
      dialog.close();
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${element} class=${classes(wide && "wide")} aria-labelledby=${id} onCancel=${cancel}>
    <header class="dialog-head">
      <h2 id=${id}>${title}</h2>
      <button type="button" class="quiet" aria-label="Close" onClick=${onClose}>✕</button>
    </header>
    ${children}
  </dialog>`;
}

// Asks before something is done. `act` may be slow and may fail: its message is shown.
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

// What went wrong in a form or dialog, read out at once; nothing where `error` is null.
export function Problem({ error }) {
  return html`<div role="alert" class="problem">
    ${error && html`<p>${error.message}${error.requestId && html` <span class="muted">(request <code>${error.requestId}</code>)</span>`}</p>`}
  </div>`;
}
