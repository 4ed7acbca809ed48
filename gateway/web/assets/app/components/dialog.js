// Dialogs are the browser's own: it keeps the focus inside and gives it back at the end.
import { classes, html, useEffect, useId, useRef, useState } from "../html.js";

// What has the focus first: never the close button, on which a second Enter would end it all.
const FIRST = "input, select, textarea, .copy, .dialog-actions button";

// Open while it is drawn. `onClose` is called for Escape and the close button; a `firm` dialog has
// neither, because what it shows would be lost: a button of its own must end it.
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
  // A browser closes what was cancelled twice by itself, unless the key is stopped before.
  const onKeyDown = (event) => event.key === "Escape" && leave(event);
  return html`<dialog ref=${element} class=${classes(wide && "wide")} aria-labelledby=${id} onKeyDown=${onKeyDown} onCancel=${leave}>
    <header class="dialog-head">
      <h2 id=${id}>${title}</h2>
      ${!firm && html`<button type="button" class="quiet" aria-label="Close" onClick=${onClose}>✕</button>`}
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
