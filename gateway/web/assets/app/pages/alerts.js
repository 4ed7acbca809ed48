// Where alerts go, how that went, and what was sent.
import { html } from "../html.js";
import { get, useLoad } from "../api.js";
import { Empty, Loaded } from "../components/notice.js";
import { Page, Panel } from "../components/page.js";
import { DataTable } from "../components/table.js";
import { count, time } from "../format.js";

export function Alerts() {
  const load = useLoad((signal) => get("alerts", {}, signal), []);
  return html`<${Page} title="Alerts" about="Webhooks of this gateway's configuration">
    <${Loaded} load=${load} lines=${4} title="The alerts could not be loaded">
      ${({ webhooks, sent }) => html`
        <${Panel} title="Webhooks"><${DataTable} caption="Webhooks" columns=${WEBHOOKS} rows=${webhooks} rowKey=${(row) => row.name} file="webhooks"
          empty=${html`<${Empty} title="Nobody is told"><p>Name a webhook in <code>[alerts.webhooks.NAME]</code> of gateway.toml, and budgets tell of themselves.</p><//>`} /><//>
        <${Panel} title="Alerts" about="By all gateways of this store, the latest first"><${DataTable} caption="Alerts" columns=${SENT} rows=${sent} file="alerts"
          empty=${html`<${Empty} title="Nothing was sent yet" />`} /><//>`}
    <//>
  <//>`;
}

const WEBHOOKS = [
  { key: "name", label: "Name", head: true },
  { key: "kind", label: "Kind" },
  { key: "at_percent", label: "At", value: (row) => row.at_percent.map((percent) => `${percent} %`).join(", ") },
  { key: "waiting", label: "Waiting", number: true, cell: (row) => count(row.waiting) },
  { key: "last_sent_at", label: "Last sent (UTC)", class: "nowrap", cell: (row) => time(row.last_sent_at, { zone: false }) },
  { key: "last_error", label: "Last failure", cell: (row) => row.last_error ?? "none" },
];

const SENT = [
  { key: "at", label: "When (UTC)", head: true, class: "nowrap", cell: (row) => time(row.at, { zone: false }) },
  { key: "webhook", label: "Webhook" },
  { key: "text", label: "What" },
  { key: "state", label: "State", class: "nowrap", cell: (row) => (row.error ? `${row.state}: ${row.error}` : row.state) },
  { key: "attempts", label: "Attempts", number: true },
];
