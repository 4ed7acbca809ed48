// The frame around every page: skip link, navigation, theme and sign-out.
import { classes, html, useEffect, useState } from "../html.js";
import { signOut } from "../api.js";
import { outside } from "../base.js";
import { linkTo, place } from "../router.js";
import { announce, announcement, chooseTheme, session, theme } from "../state.js";

const SHOWN_MILLISECONDS = 4_000;

export function Shell({ routes, current, children }) {
  const [open, setOpen] = useState(false);
  const { path } = place.use();
  const { who, role } = session.use();
  useEffect(() => setOpen(false), [path]);
  const leave = () => signOut().catch((error) => announce(error.message, { shown: true }));
  return html`
    <a class="skip" href="#main">Skip to content</a>
    <header class="top">
      <a class="brand" href=${linkTo("/")}><img src=${outside("/assets/icon.svg")} alt="" width="22" height="22" />Image gateway</a>
      <button type="button" class="menu" aria-expanded=${open ? "true" : "false"} aria-controls="side" onClick=${() => setOpen(!open)}>Menu</button>
    </header>
    <div id="side" class=${classes("side", open && "open")}>
      <nav aria-label="Pages">
        <ul>${routes.filter(({ label }) => label).map((route) => html`<li key=${route.path}>
          <a href=${linkTo(route.path)} aria-current=${isIn(route, current) ? "page" : undefined}>${route.label}</a>
        </li>`)}</ul>
      </nav>
      <div class="side-foot">
        <a href=${outside("/docs")}>API reference</a>
        <${ThemeChoice} />
        <p class="who">Signed in as <b>${who}</b><span class="badge">${role}</span></p>
        <button type="button" onClick=${leave}>Sign out</button>
      </div>
    </div>
    <main id="main" tabindex="-1">${children}</main>
    <${Announcer} />`;
}

// Whether the current page is this one or below it: "/teams/red" is below "/teams".
const isIn = (route, current) => current && (route === current || current.path.startsWith(`${route.path}/`) && route.path !== "/");

export function ThemeChoice() {
  const chosen = theme.use();
  return html`<label class="inline theme"><span>Theme</span>
    <select value=${chosen} onChange=${(event) => chooseTheme(event.currentTarget.value)}>
      <option value="system">System</option><option value="light">Light</option><option value="dark">Dark</option>
    </select></label>`;
}

export function Announcer() {
  const { text, shown, count } = announcement.use();
  const [toast, setToast] = useState("");
  useEffect(() => {
    setToast(shown ? text : "");
    const timer = setTimeout(() => setToast(""), SHOWN_MILLISECONDS);
    return () => clearTimeout(timer);
  }, [count]);
  return html`<div class="visually-hidden" aria-live="polite">${text}${count % 2 ? "\u00a0" : ""}</div>
    ${toast && html`<div class="toast" aria-hidden="true">${toast}</div>`}`;
}
