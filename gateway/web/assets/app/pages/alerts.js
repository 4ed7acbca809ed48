// Webhooks with the state of their deliveries, and the alerts that were sent.
import { html } from "../html.js";
import { get, useLoad } from "../api.js";
import { countColumn, timeColumn } from "../components/columns.js";
import { Empty, Loaded } from "../components/notice.js";
import { Page, Panel } from "../components/page.js";
import { DataTable } from "../components/table.js";

export function Alerts() {
  const load = useLoad((signal) => get("alerts", {}, signal), []);
  return html`<${Page} title="Alerts" about="Webhooks of this gateway's configuration">
    <${Loaded} load=${load} lines=${4} title="The alerts could not be loaded">
      ${({ webhooks, sent }) => html`
        <${Panel} title="Webhooks"><${DataTable} caption="Webhooks" columns=${WEBHOOKS} rows=${webhooks} rowKey=${(row) => row.name} file="webhooks"
          empty=${html`<${Empty} title="No webhooks"><p>Add a webhook as <code>[alerts.webhooks.NAME]</code> in gateway.toml to get alerts about budgets and the upstream.</p><//>`} /><//>
        <${Panel} title="Alerts" about="From all gateways of this store, the latest first"><${DataTable} caption="Alerts" columns=${SENT} rows=${sent} file="alerts"
          empty=${html`<${Empty} title="No alerts sent yet" />`} /><//>`}
    <//>
  <//>`;
}

const WEBHOOKS = [
  { key: "name", label: "Name", head: true },
  { key: "kind", label: "Kind" },
  { key: "at_percent", label: "At", value: (row) => row.at_percent.map((percent) => `${percent} %`).join(", ") },
  countColumn("waiting", "Waiting"),
  timeColumn("last_sent_at", "Last sent"),
  { key: "last_error", label: "Last error", cell: (row) => row.last_error ?? "none" },
];

const SENT = [
  timeColumn("at", "Time", { head: true }),
  { key: "webhook", label: "Webhook" },
  { key: "text", label: "Alert" },
  { key: "state", label: "State", class: "nowrap", cell: (row) => (row.error ? `${row.state}: ${row.error}` : row.state) },
  { key: "attempts", label: "Attempts", number: true },
];
