// All teams: how their limits stand, and a new one.
import { html, useMemo, useState } from "../html.js";
import { get, useLoad } from "../api.js";
import { Empty, Loaded } from "../components/notice.js";
import { Page, Panel } from "../components/page.js";
import { QuotaBar, Quotas } from "../components/quota.js";
import { DataTable } from "../components/table.js";
import { LIMITS } from "../limits.js";
import { linkTo, navigate } from "../router.js";
import { useMayChange } from "../state.js";
import { TeamForm } from "./team_form.js";

export function Teams() {
  const load = useLoad((signal) => get("quota", {}, signal), []);
  const [making, setMaking] = useState(false);
  const mayChange = useMayChange();
  const actions = mayChange && html`<button type="button" class="main" onClick=${() => setMaking(true)}>New team</button>`;
  return html`<${Page} title="Teams" about="How the limits stand at this moment; days and months are UTC" actions=${actions}>
    <${Loaded} load=${load} lines=${8} title="The teams could not be loaded">
      ${({ gateway, teams }) => html`
        ${gateway.length > 0 && html`<${Panel} title="All teams together" about="Limits of the configuration, [limits]">
          <${Quotas} limits=${gateway} whose="All teams" /><//>`}
        <${List} teams=${teams} mayChange=${mayChange} />`}
    <//>
    ${making && html`<${TeamForm} former=${null} onClose=${() => setMaking(false)}
      onDone=${(team) => navigate(linkTo(`/teams/${encodeURIComponent(team)}`, { team: "" }))} />`}
  <//>`;
}

function List({ teams, mayChange }) {
  const [wanted, setWanted] = useState("");
  const rows = useMemo(() => {
    const text = wanted.trim().toLowerCase();
    return teams.filter(({ team }) => team.toLowerCase().includes(text));
  }, [teams, wanted]);
  const columns = useMemo(() => columnsFor(teams), [teams]);
  if (!teams.length) {
    return html`<${Empty} title="There are no teams yet"><p>${mayChange ? "Make one here, or" : "An admin makes one here, or"}
      bring in a file with <code>gateway teams apply</code>.</p><//>`;
  }
  return html`<div class="panel">
    <div class="table-tools"><label class="inline"><span>Find</span>
      <input type="search" value=${wanted} placeholder="Part of a name" onInput=${(event) => setWanted(event.currentTarget.value)} /></label></div>
    <${DataTable} caption="Teams" columns=${columns} rows=${rows} rowKey=${(row) => row.team} sort=${{ key: "team", descending: false }} file="teams"
      empty="No team's name has this in it." />
  </div>`;
}

const find = (row, name) => row.limits.find(({ limit }) => limit === name);

// What a file tells of a limit.
const PARTS = [["used", "used"], ["held", "held"], ["left", "remaining"], ["limit", "size"], ["resets at", "resets_at"]];

// A column for each limit that any team has.
function columnsFor(teams) {
  const used = LIMITS.filter(({ name }) => teams.some((row) => find(row, name)));
  return [
    { key: "team", label: "Team", head: true, cell: (row) => html`<a href=${linkTo(`/teams/${encodeURIComponent(row.team)}`, { team: "" })}>${row.team}</a>` },
    ...used.map(({ name, short }) => ({
      key: name,
      label: short,
      csv: PARTS.map(([part, key]) => [`${short}: ${part}`, (row) => find(row, name)?.[key]]),
      value: (row) => find(row, name)?.used ?? "",
      cell: (row) => {
        const limit = find(row, name);
        return limit ? html`<${QuotaBar} limit=${limit} whose=${row.team} />` : html`<span class="muted">no limit</span>`;
      },
    })),
  ];
}
