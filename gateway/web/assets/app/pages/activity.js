// The latest requests on all gateways, and what went wrong by kind.
import { html, useEffect, useState } from "../html.js";
import { get, useLoad } from "../api.js";
import { DateRange } from "../components/date_range.js";
import { Problem } from "../components/dialog.js";
import { Empty, Loaded } from "../components/notice.js";
import { Page, Panel } from "../components/page.js";
import { DataTable } from "../components/table.js";
import { TeamFilter } from "../components/team_filter.js";
import { useRange } from "../dates.js";
import { count, milliseconds, money, time } from "../format.js";
import { linkTo, setQuery, useQuery } from "../router.js";

const AT_ONCE = 200;

export function Activity() {
  const { from, to } = useRange();
  const team = useQuery("team");
  const kinds = useLoad((signal) => get("errors", { from, to, team }, signal), [from, to, team]);
  return html`<${Page} title="Activity" about="On all gateways of this store" filters=${html`<${DateRange} /><${TeamFilter} />`}>
    <${Panel} title="Errors and refusals" about="By kind, in the days chosen">
      <${Loaded} load=${kinds} lines=${3} title="The errors could not be loaded">
        ${(data) => html`<${DataTable} caption="Errors and refusals by kind" columns=${KINDS} rows=${data.kinds} sort=${MOST} file="errors"
          empty=${html`<${Empty} title="Nothing went wrong in these days" />`} />`}
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
  { key: "requests", label: "Requests", number: true, cell: (row) => count(row.requests) },
  { key: "last_at", label: "Last (UTC)", class: "nowrap", cell: (row) => time(row.last_at, { zone: false }) },
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
      ${(first) => html`<${Pages} first=${first} asked=${asked} />`}
    <//>
  <//>`;
}

function Filters({ outcome, keyId, id, errors }) {
  const [wanted, setWanted] = useState({ outcome, key: keyId, id });
  const typed = (name) => (event) => setWanted({ ...wanted, [name]: event.currentTarget.value });
  const apply = (event) => {
    event.preventDefault();
    setQuery(Object.fromEntries(Object.entries(wanted).map(([name, text]) => [name, text.trim()])));
  };
  const field = (name, label) => html`<label class="inline"><span>${label}</span>
    <input value=${wanted[name]} autocomplete="off" spellcheck=${false} onInput=${typed(name)} /></label>`;
  return html`<form class="page-tools" role="search" aria-label="Requests" onSubmit=${apply}>
    ${field("outcome", "Outcome")} ${field("key", "Key")} ${field("id", "Request id")}
    <button>Filter</button>
    <label class="check"><input type="checkbox" checked=${errors === "true"}
      onChange=${(event) => setQuery({ errors: event.currentTarget.checked ? "true" : "" })} /> Only errors</label>
    ${(outcome || keyId || id) && html`<button type="button" class="quiet" onClick=${() => setQuery({ outcome: "", key: "", id: "" })}>Clear</button>`}
  </form>`;
}

// The first page and as many further ones as were asked for.
function Pages({ first, asked }) {
  const [shown, setShown] = useState(first);
  const [state, setState] = useState({ busy: false, error: null });
  useEffect(() => setShown(first), [first]);
  const more = async () => {
    setState({ busy: true, error: null });
    try {
      const next = await get("activity", { ...asked, before: shown.next });
      setShown({ requests: [...shown.requests, ...next.requests], next: next.next });
      setState({ busy: false, error: null });
    } catch (error) {
      setState({ busy: false, error });
    }
  };
  return html`<${DataTable} caption="Latest requests" columns=${REQUESTS} rows=${shown.requests} file="requests"
      empty=${html`<${Empty} title="No such requests"><p>Requests appear here within two seconds of their end.</p><//>`} />
    <${Problem} error=${state.error} />
    ${shown.next && html`<button type="button" disabled=${state.busy} onClick=${more}>${state.busy ? "Loading …" : "Load older ones"}</button>`}`;
}

const REQUESTS = [
  { key: "at", label: "When (UTC)", head: true, class: "nowrap", cell: (row) => time(row.at, { zone: false }) },
  { key: "team", label: "Team", cell: (row) => (row.team ? html`<a href=${linkTo(`/teams/${encodeURIComponent(row.team)}`, { team: "" })}>${row.team}</a>` : "–") },
  { key: "key", label: "Key", cell: (row) => (row.key ? html`<code>${row.key}</code>` : "–") },
  { key: "outcome", label: "Outcome", csv: [["Outcome", (row) => row.outcome], ["Code", (row) => row.code], ["Status", (row) => row.status]],
    cell: (row) => html`${row.route ?? row.outcome} <span class="muted">${row.status}${row.code && row.code !== row.outcome && ` ${row.code}`}</span>` },
  { key: "size", label: "Size", csv: [["Size", (row) => row.size], ["Quality", (row) => row.quality]], cell: (row) => [row.size, row.quality].filter(Boolean).join(", ") || "–" },
  { key: "images", label: "Images", number: true, cell: (row) => count(row.images) },
  { key: "cost_usd", label: "Cost", csv: "Cost (USD)", number: true, cell: (row) => money(row.cost_usd) },
  { key: "saved_usd", label: "Saved", csv: "Saved (USD)", number: true, cell: (row) => money(row.saved_usd) },
  { key: "own_ms", label: "Own time", csv: "Own time (ms)", number: true, cell: (row) => milliseconds(row.own_ms) },
  { key: "upstream_ms", label: "Upstream", csv: "Upstream (ms)", number: true, cell: (row) => milliseconds(row.upstream_ms) },
  { key: "id", label: "Request id", class: "breaks", cell: (row) => html`<code>${row.id}</code>` },
];
