// The frame of every page: its title, which gets the focus after a page change, and its filters.
import { html, useEffect, useRef } from "../html.js";
import { place } from "../router.js";

let drawn = null;

// Called when no page is shown, so that the next page takes the focus.
export const leftPage = () => {
  drawn = "";
};

// Every page renders exactly one. `filters` and `actions` are beside the title.
export function Page({ title, about, filters, actions, children }) {
  const heading = useRef(null);
  const { path } = place.use();
  useEffect(() => {
    document.title = `${title} · Image gateway`;
    // Not on the first page: screen readers then start at the top, as on any page.
    if (drawn !== null && drawn !== path) heading.current?.focus();
    drawn = path;
  }, [title, path]);
  return html`<div class="page">
    <header class="page-head">
      <div>
        <h1 ref=${heading} tabindex="-1">${title}</h1>
        ${about && html`<p class="muted">${about}</p>`}
      </div>
      ${(filters || actions) && html`<div class="page-tools">${filters}${actions}</div>`}
    </header>
    ${children}
  </div>`;
}

// A box with its own heading, and `tools` at the right.
export function Panel({ title, about, tools, children }) {
  return html`<section class="panel" aria-label=${title}>
    ${(title || tools) && html`<div class="panel-head">
      <div><h2>${title}</h2>${about && html`<p class="muted">${about}</p>`}</div>
      ${tools && html`<div class="panel-tools">${tools}</div>`}
    </div>`}
    ${children}
  </section>`;
}
