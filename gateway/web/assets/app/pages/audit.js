// Who changed what, the latest first.
import { html } from "../html.js";
import { get, useLoad } from "../api.js";
import { codeColumn, timeColumn } from "../components/columns.js";
import { DateRange } from "../components/date_range.js";
import { Empty, Loaded, Notice } from "../components/notice.js";
import { Page } from "../components/page.js";
import { DataTable } from "../components/table.js";
import { TeamFilter } from "../components/team_filter.js";
import { useRange } from "../dates.js";
import { count, day } from "../format.js";
import { useQuery } from "../router.js";

const MOST = 1_000;

// Fields that other columns show, or that follow from them.
const SHOWN_ELSEWHERE = new Set(["team", "id", "line", "created"]);

export function Audit() {
  const { from, to } = useRange();
  const team = useQuery("team");
  const load = useLoad((signal) => get("audit", { from, to, team, limit: MOST }, signal), [from, to, team]);
  const filters = html`<${DateRange} /><${TeamFilter} />`;
  return html`<${Page} title="Audit" about=${`Changes of teams, keys and cache, ${day(from)} to ${day(to)}, UTC`} filters=${filters}>
    <${Loaded} load=${load} lines=${8} title="The changes could not be loaded">
      ${({ changes }) => html`
        ${changes.length >= MOST && html`<${Notice} kind="info"><p>Only the latest ${count(MOST)} changes of this period are shown.
          Select a shorter period to see the rest.</p><//>`}
        <div class="panel"><${DataTable} caption="Changes" columns=${COLUMNS} rows=${changes}
          sort=${{ key: "at", descending: true }} file="audit" empty=${html`<${Nothing} />`} /></div>`}
    <//>
  <//>`;
}

const Nothing = () => html`<${Empty} title="No changes in this period">
  <p>Changes from the command line, the admin API and the dashboard appear here.</p>
<//>`;

const COLUMNS = [
  timeColumn("at", "Time", { head: true }),
  { key: "who", label: "Who" },
  { key: "action", label: "Action", class: "nowrap" },
  { key: "team", label: "Team" },
  codeColumn("key", "Key"),
  { key: "change", label: "Change", sort: false, value: (row) => sentences(row).join("; "), cell: (row) => html`<${Change} row=${row} />` },
];

const Change = ({ row }) => html`<ul class="changes">
  ${sentences(row).map((sentence) => html`<li key=${sentence}>${sentence}</li>`)}
</ul>`;

// The differences between before and after, one sentence for each field.
export function sentences({ before, after }) {
  const [was, is] = [flat(before), flat(after)];
  const names = [...new Set([...Object.keys(was), ...Object.keys(is)])];
  return names
    .filter((name) => !SHOWN_ELSEWHERE.has(name) && JSON.stringify(was[name]) !== JSON.stringify(is[name]))
    .map((name) => {
      if (!before) return `${name}: ${shown(is[name])}`;
      return after ? `${name}: ${shown(was[name])} → ${shown(is[name])}` : `${name} was ${shown(was[name])}`;
    });
}

// {limits: {a: 1}} as {a: 1}, without null values.
function flat(fields) {
  const found = {};
  for (const [name, value] of Object.entries(fields ?? {})) {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) Object.assign(found, flat(value));
    else if (value !== null) found[name] = value;
  }
  return found;
}

function shown(value) {
  if (value === undefined) return "none";
  if (Array.isArray(value)) return value.join(", ") || "none";
  return typeof value === "boolean" ? (value ? "on" : "off") : String(value);
}
