// Placeholders for data: a notice, an error with a retry, an empty state, a loading state.
import { classes, html } from "../html.js";

// kind: "info", "good", "warning" or "danger". Screen readers announce role "alert" at once.
export function Notice({ kind = "info", title, role, children }) {
  return html`<div class=${classes("notice", kind)} role=${role}>
    ${title && html`<p class="notice-title">${title}</p>`}
    ${children}
  </div>`;
}

// A failed load: the error, the request's id to find it in the log, and a retry.
export function Failed({ error, retry, title = "This could not be loaded" }) {
  return html`<${Notice} kind="danger" title=${title} role="alert">
    <p>${error.message}</p>
    ${error.requestId && html`<p class="muted">Request id <code>${error.requestId}</code></p>`}
    ${retry && html`<button type="button" onClick=${retry}>Try again</button>`}
  <//>`;
}

// An empty state: the reason, and what to do next.
export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p>${children}</div>`;
}

// Grey bars of about the size of the content.
export function Skeleton({ lines = 4, height }) {
  return html`<div class="skeleton" role="status" aria-label="Loading">
    ${Array.from({ length: lines }, (_, index) => html`<span key=${index} style=${height ? { height } : undefined}></span>`)}
  </div>`;
}

// Renders `children(data)` once a `useLoad` has data, and its loading and error states before.
export function Loaded({ load, lines, height, title, children }) {
  if (load.state === "error") return html`<${Failed} error=${load.error} retry=${load.reload} title=${title} />`;
  if (load.state === "loading") return html`<${Skeleton} lines=${lines} height=${height} />`;
  return html`<div aria-busy=${load.busy ? "true" : undefined} class=${classes("loaded", load.busy && "busy")}>
    ${children(load.data)}
  </div>`;
}
