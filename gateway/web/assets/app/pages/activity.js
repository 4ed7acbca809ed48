// The latest requests on all gateways, and errors by kind.
import { html, useState } from "../html.js";
import { get, useLoad } from "../api.js";
import { codeColumn, countColumn, moneyColumn, sizeColumn, teamColumn, timeColumn } from "../components/columns.js";
import { DateRange } from "../components/date_range.js";
import { Empty, Loaded } from "../components/notice.js";
import { Page, Panel } from "../components/page.js";
import { Pages } from "../components/pages.js";
import { DataTable } from "../components/table.js";
import { TeamFilter } from "../components/team_filter.js";
import { useRange } from "../dates.js";
import { cause, milliseconds, outcomeName, outcomeWord } from "../format.js";
import { linkTo, setQuery, useQuery } from "../router.js";

const AT_ONCE = 200;

export function Activity() {
  const { from, to } = useRange();
  const team = useQuery("team");
  const kinds = useLoad((signal) => get("errors", { from, to, team }, signal), [from, to, team]);
  return html`<${Page} title="Activity" about="On all gateways of this store" filters=${html`<${DateRange} /><${TeamFilter} />`}>
    <${Panel} title="Errors and refusals" about="By kind, in the selected period">
      <${Loaded} load=${kinds} lines=${3} title="The errors could not be loaded">
        ${(data) => html`<${DataTable} caption="Errors and refusals by kind" columns=${KINDS} rows=${data.kinds} sort=${MOST} file="errors"
          empty=${html`<${Empty} title="No errors in this period" />`} />`}
      <//>
    <//>
    <${Requests} team=${team} />
  <//>`;
}

const MOST = { key: "requests", descending: true };

const KINDS = [
  { key: "outcome", label: "Outcome", head: true, cell: (row) => html`<a href=${linkTo("/activity", { outcome: row.outcome })}>${row.outcome}</a>` },
  { key: "code", label: "Code", cell: (row) => row.code ?? "–" },
  { key: "status", label: "Status", number: true },
  countColumn("requests", "Requests"),
  timeColumn("last_at", "Last"),
  { key: "last_id", label: "Last request", cell: (row) => (row.last_id ? html`<a href=${linkTo("/activity", { id: row.last_id })}><code>${row.last_id}</code></a>` : "–") },
];

// -- requests -------------------------------------------------------------------------------------

function Requests({ team }) {
  const [outcome, key, id, errors] = ["outcome", "key", "id", "errors"].map(useQuery);
  const asked = { team, outcome, key, id, errors, limit: AT_ONCE };
  const inputs = [team, outcome, key, id, errors];
  const load = useLoad((signal) => get("activity", asked, signal), inputs);
  const tools = html`<button type="button" onClick=${load.reload}>Refresh</button>`;
  return html`<${Panel} title="Latest requests" about="Newest first" tools=${tools}>
    <${Filters} key=${inputs.join(" ")} outcome=${outcome} keyId=${key} id=${id} errors=${errors} />
    <${Loaded} load=${load} lines=${8} title="The requests could not be loaded">
      ${(first) => html`<${Pages} first=${first} name="requests" label="Load older requests"
        load=${(before) => get("activity", { ...asked, before })}>
        ${(rows) => html`<${DataTable} caption="Latest requests" columns=${REQUESTS} rows=${rows} file="requests"
          empty=${html`<${Empty} title="No requests found"><p>Requests appear here within two seconds after they end.</p><//>`} />`}
      <//>`}
    <//>
  <//>`;
}

function Filters({ outcome, keyId, id, errors }) {
  const [wanted, setWanted] = useState({ outcome: outcomeWord(outcome), key: keyId, id });
  const typed = (name) => (event) => setWanted({ ...wanted, [name]: event.currentTarget.value });
  const apply = (event) => {
    event.preventDefault();
    setQuery({ outcome: outcomeName(wanted.outcome.trim()), key: wanted.key.trim(), id: wanted.id.trim() });
  };
  const field = (name, label) => html`<label class="inline"><span>${label}</span>
    <input value=${wanted[name]} autocomplete="off" spellcheck=${false} onInput=${typed(name)} /></label>`;
  return html`<form class="page-tools" role="search" aria-label="Requests" onSubmit=${apply}>
    ${field("outcome", "Outcome")} ${field("key", "Key")} ${field("id", "Request id")}
    <button>Filter</button>
    <label class="check"><input type="checkbox" checked=${errors === "true"}
      onChange=${(event) => setQuery({ errors: event.currentTarget.checked ? "true" : "" })} /> Errors only</label>
    ${(outcome || keyId || id) && html`<button type="button" class="quiet" onClick=${() => setQuery({ outcome: "", key: "", id: "" })}>Clear</button>`}
  </form>`;
}

const REQUESTS = [
  timeColumn("at", "Time", { head: true }),
  teamColumn(),
  codeColumn("key", "Key"),
  { key: "outcome", label: "Outcome", csv: [["Outcome", (row) => outcomeWord(row.outcome)], ["Code", (row) => row.code], ["Status", (row) => row.status], ["Cause", cause]],
    cell: (row) => html`${row.route && row.route !== "unknown" ? row.route : outcomeWord(row.outcome)} <span class="muted">${row.status}${row.code && row.code !== row.outcome && ` ${row.code}`}</span>${cause(row) && html`<p class="cause muted">${cause(row)}</p>`}` },
  { ...sizeColumn, class: undefined },
  countColumn("images", "Images"),
  moneyColumn("cost_usd", "Cost"),
  moneyColumn("saved_usd", "Saved"),
  { key: "own_ms", label: "Gateway", csv: "Gateway (ms)", number: true, cell: (row) => milliseconds(row.own_ms) },
  { key: "upstream_ms", label: "Upstream", csv: "Upstream (ms)", number: true, cell: (row) => milliseconds(row.upstream_ms) },
  codeColumn("id", "Request id", { class: "breaks" }),
];
