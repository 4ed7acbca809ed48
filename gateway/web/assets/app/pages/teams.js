// All teams with their usage against limits, and creating a team.
import { html, useMemo, useState } from "../html.js";
import { get, useLoad } from "../api.js";
import { teamColumn, teamPage } from "../components/columns.js";
import { Empty, Loaded } from "../components/notice.js";
import { Page, Panel } from "../components/page.js";
import { QuotaBar, Quotas } from "../components/quota.js";
import { DataTable } from "../components/table.js";
import { LIMITS } from "../limits.js";
import { navigate } from "../router.js";
import { useMayChange } from "../state.js";
import { TeamForm } from "./team_form.js";

export function Teams() {
  const load = useLoad((signal) => get("quota", {}, signal), []);
  const [making, setMaking] = useState(false);
  const mayChange = useMayChange();
  const actions = mayChange && html`<button type="button" class="main" onClick=${() => setMaking(true)}>New team</button>`;
  return html`<${Page} title="Teams" about="Current usage against limits; days and months are UTC" actions=${actions}>
    <${Loaded} load=${load} lines=${8} title="The teams could not be loaded">
      ${({ gateway, teams }) => html`
        ${gateway.length > 0 && html`<${Panel} title="All teams together" about="The gateway's limits, [limits] in gateway.toml">
          <${Quotas} limits=${gateway} owner="All teams" /><//>`}
        <${List} teams=${teams} mayChange=${mayChange} />`}
    <//>
    ${making && html`<${TeamForm} former=${null} onClose=${() => setMaking(false)}
      onDone=${(team) => navigate(teamPage(team))} />`}
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
    return html`<${Empty} title="There are no teams yet"><p>${mayChange ? "Create one here, or" : "An admin can create one here, or"}
      apply a file with <code>gateway teams apply</code>.</p><//>`;
  }
  return html`<div class="panel">
    <div class="table-tools"><label class="inline"><span>Find</span>
      <input type="search" value=${wanted} placeholder="Part of a name" onInput=${(event) => setWanted(event.currentTarget.value)} /></label></div>
    <${DataTable} caption="Teams" columns=${columns} rows=${rows} rowKey=${(row) => row.team} sort=${{ key: "team", descending: false }} file="teams"
      empty="No team name contains this text." />
  </div>`;
}

const find = (row, name) => row.limits.find(({ limit }) => limit === name);

// The columns of a limit in the CSV file.
const PARTS = [["used", "used"], ["held", "held"], ["left", "remaining"], ["limit", "size"], ["resets at", "resets_at"]];

// A column for each limit that any team has.
function columnsFor(teams) {
  const used = LIMITS.filter(({ name }) => teams.some((row) => find(row, name)));
  return [
    teamColumn({ head: true }),
    ...used.map(({ name, short }) => ({
      key: name,
      label: short,
      csv: PARTS.map(([part, key]) => [`${short}: ${part}`, (row) => find(row, name)?.[key]]),
      value: (row) => find(row, name)?.used ?? "",
      cell: (row) => {
        const limit = find(row, name);
        return limit ? html`<${QuotaBar} limit=${limit} owner=${row.team} />` : html`<span class="muted">no limit</span>`;
      },
    })),
  ];
}
