// The frame of every page: its title, which takes the focus after a change of page, and filters.
import { html, useEffect, useRef } from "../html.js";
import { place } from "../router.js";

let drawn = null;

// Something else than a page was drawn: the next page takes the focus.
export const leftPage = () => {
  drawn = "";
};

// Every page draws exactly one. `filters` and `actions` stand beside the title.
export function Page({ title, about, filters, actions, children }) {
  const heading = useRef(null);
  const { path } = place.use();
  useEffect(() => {
    document.title = `${title} · Image gateway`;
    // Not at the first page: a reader then starts at the top, as on any page.
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

// A box with a heading of its own. `tools` stand at its right.
export function Panel({ title, about, tools, children }) {
  return html`<section class="panel" aria-label=${title}>
    ${(title || tools) && html`<div class="panel-head">
      <div><h2>${title}</h2>${about && html`<p class="muted">${about}</p>`}</div>
      ${tools && html`<div class="panel-tools">${tools}</div>`}
    </div>`}
    ${children}
  </section>`;
}
