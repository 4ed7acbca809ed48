// Starts the app: finds the session, then renders the page of the URL.
import { html, render, useEffect } from "./html.js";
import { findSession } from "./api.js";
import { outside } from "./base.js";
import { Announcer, Shell } from "./components/shell.js";
import { Skeleton } from "./components/notice.js";
import { NotFound } from "./pages/not_found.js";
import { SignIn } from "./pages/sign_in.js";
import { match, place, useLinks } from "./router.js";
import { ROUTES } from "./routes.js";
import { session } from "./state.js";

function App() {
  const { state } = session.use();
  const { path } = place.use();
  useLinks(ROUTES);
  useEffect(() => void findSession(), []);
  if (state === "asking") return html`<main class="sign-in"><${Skeleton} lines=${3} /></main>`;
  // The URL stays, so that its page follows after signing in.
  if (state === "out") return html`<${SignIn} /><${Announcer} />`;
  const found = match(ROUTES, path);
  const Shown = found?.route.page ?? NotFound;
  return html`<${Shell} routes=${ROUTES} current=${found?.route}>
    <${Shown} key=${path} ...${found?.names} />
  <//>`;
}

// The page's own link is relative: it would lead elsewhere once the address changes.
document.querySelector("link[rel=icon]").href = outside("/assets/icon.svg");
render(html`<${App} />`, document.getElementById("app"));
