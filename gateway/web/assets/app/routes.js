// The pages by their addresses. Those with a label stand in the navigation, in this order; the
// first segments are those that the gateway serves the page at (gateway/web/dashboard.py).
import { html } from "./html.js";
import { Empty } from "./components/notice.js";
import { Page } from "./components/page.js";
import { Audit } from "./pages/audit.js";
import { Overview } from "./pages/overview.js";

const later = (title) => () => html`<${Page} title=${title}><${Empty} title="There is nothing here yet." /><//>`;

export const ROUTES = [
  { path: "/", label: "Overview", page: Overview },
  { path: "/teams", label: "Teams", page: later("Teams") },
  { path: "/teams/:team", page: later("Team") },
  { path: "/activity", label: "Activity", page: later("Activity") },
  { path: "/cache", label: "Cache", page: later("Cache") },
  { path: "/alerts", label: "Alerts", page: later("Alerts") },
  { path: "/audit", label: "Audit", page: Audit },
];
