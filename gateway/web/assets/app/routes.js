// The pages by URL. Those with a label appear in the navigation, in this order. The gateway serves
// the app at the first segments of these paths: see SECTIONS in gateway/web/admin/pages.py.
import { Activity } from "./pages/activity.js";
import { Alerts } from "./pages/alerts.js";
import { Audit } from "./pages/audit.js";
import { Cache } from "./pages/cache.js";
import { Overview } from "./pages/overview.js";
import { Purchases } from "./pages/purchases.js";
import { Team } from "./pages/team.js";
import { Teams } from "./pages/teams.js";

export const ROUTES = [
  { path: "/", label: "Overview", page: Overview },
  { path: "/teams", label: "Teams", page: Teams },
  { path: "/teams/:team", page: Team },
  { path: "/activity", label: "Activity", page: Activity },
  { path: "/purchases", label: "Purchases", page: Purchases },
  { path: "/cache", label: "Cache", page: Cache },
  { path: "/alerts", label: "Alerts", page: Alerts },
  { path: "/audit", label: "Audit", page: Audit },
];
