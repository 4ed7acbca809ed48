// Money, pictures and speed over a range of days, against the range before.
import { html, useMemo } from "../html.js";
import { get, useLoad } from "../api.js";
import { Chart } from "../components/chart.js";
import { DateRange } from "../components/date_range.js";
import { Empty, Loaded } from "../components/notice.js";
import { Page, Panel } from "../components/page.js";
import { DataTable } from "../components/table.js";
import { TeamFilter } from "../components/team_filter.js";
import { Tile, Tiles } from "../components/tile.js";
import { daysBefore, today, useRange } from "../dates.js";
import { axisMoney, change, changeOfShare, count, day, milliseconds, money, percent } from "../format.js";
import { linkTo, useQuery } from "../router.js";

const HOUR = 3_600;
const DAY = 86_400;

export function Overview() {
  const { from, to } = useRange();
  const team = useQuery("team");
  const load = useLoad((signal) => get("overview", { from, to, team }, signal), [from, to, team]);
  const filters = html`<${DateRange} /><${TeamFilter} />`;
  return html`<${Page} title="Overview" about=${`${span(from, to)}, in UTC`} filters=${filters}>
    <${Loaded} load=${load} lines=${4} height="96px" title="The overview could not be loaded">
      ${(data) => html`<${Shown} data=${data} team=${team} />`}
    <//>
  <//>`;
}

function Shown({ data, team }) {
  if (!data.now.requests && !data.before.requests) return html`<${Nothing} team=${team} />`;
  return html`
    <${Numbers} data=${data} />
    <${Spend} data=${data} />
    <div class="halves wide">
      <${TopTeams} data=${data} />
      <${TopKeys} data=${data} />
    </div>
    <${Latency} data=${data} />`;
}

const Nothing = ({ team }) => html`<${Empty} title="No requests in these days">
  <p>${team ? html`Team <b>${team}</b> asked for nothing. Choose other days, or <a href=${linkTo("/", { team: "" })}>all teams</a>.`
    : "Numbers appear here within a second of the first request. Choose other days, or make a team and a key."}</p>
<//>`;

// -- tiles ----------------------------------------------------------------------------------------

const SO_FAR = { direction: "same", text: "so far" };
const span = (first, last) => (first === last ? day(first) : `${day(first)} to ${day(last)}`);
const images = ({ images_bought, images_cached }) => images_bought + images_cached;

// A day that has not ended says nothing against a whole one; in a longer range it is told.
function Numbers({ data: { now, before, from, to, before_from, before_to } }) {
  const open = to >= today();
  const against = open && from >= daysBefore(1) ? () => SO_FAR : change;
  const shares = against === change ? changeOfShare : against;
  const unknown = now.images_unknown ? ` (${count(now.images_unknown)} of them unknown)` : "";
  const parts = [`${count(now.images_bought)} bought${unknown}`, `${count(now.images_cached)} from cache or shared`];
  return html`<${Tiles}>
      <${Tile} label="Spend" value=${money(now.cost_usd)} detail=${`${count(now.requests)} requests, ${count(now.requests_refused)} refused`}
        change=${against(now.cost_usd, before.cost_usd)} before=${money(before.cost_usd)} />
      <${Tile} label="Images" value=${count(images(now))} detail=${parts.join(", ")}
        change=${against(images(now), images(before))} before=${count(images(before))} />
      <${Tile} label="Hit ratio" value=${percent(now.hit_ratio)} detail="of images given without a purchase of their own"
        change=${shares(now.hit_ratio, before.hit_ratio)} before=${percent(before.hit_ratio)} />
      <${Tile} label="Saved" value=${money(now.saved_usd)} detail="what those images would have cost"
        change=${against(now.saved_usd, before.saved_usd)} before=${money(before.saved_usd)} />
    <//>
    <p class="muted under-tiles">Compared with ${span(before_from, before_to)}${open ? "; today has not ended" : ""}.</p>`;
}

// -- charts ---------------------------------------------------------------------------------------

const stamp = (text) => Date.parse(text) / 1_000;
const isHourly = (texts) => texts.some((text) => text.length > 10);

function label(step) {
  return (seconds, { short = false } = {}) => {
    const text = new Date(seconds * 1_000).toISOString();
    if (step === DAY) return day(text.slice(0, 10), { year: !short });
    const hour = text.slice(11, 16);
    if (short) return hour === "00:00" ? day(text.slice(0, 10), { year: false }) : hour;
    return `${day(text.slice(0, 10))} ${hour} UTC`;
  };
}

function Spend({ data }) {
  const step = isHourly(data.days) ? HOUR : DAY;
  const times = useMemo(() => data.days.map(stamp), [data]);
  const series = useMemo(() => data.series.map(({ team, cost_usd }) => ({
    label: team ?? "Other teams", rest: team === null, values: cost_usd.map(Number),
  })), [data]);
  const title = step === HOUR ? "Spend by hour" : "Spend by day";
  if (!series.length) return html`<${Panel} title=${title}><${Empty} title="Nothing was bought in these days" /><//>`;
  return html`<${Panel} title=${title} about="US dollars, stacked by team, UTC">
    <${Chart} caption=${`${title}, by team`} times=${times} series=${series} step=${step}
      format=${money} axis=${axisMoney} unit="USD" timeLabel=${label(step)} file="spend" />
  <//>`;
}

// Over all times of the range, with gaps where no request was timed.
function Latency({ data: { days, latency } }) {
  const times = useMemo(() => days.map(stamp), [days]);
  const known = useMemo(() => {
    const timed = new Map(latency.filter(({ requests }) => requests > 0).map((one) => [one.day, one]));
    return days.map((one) => timed.get(one) ?? {});
  }, [days, latency]);
  const step = isHourly(days) ? HOUR : DAY;
  if (!latency.some(({ requests }) => requests > 0)) {
    return html`<${Panel} title="Latency"><${Empty} title="No request was timed in these days" /><//>`;
  }
  return html`<div class="halves">
    <${Times} title="The gateway's own time" about="Mean of a request of any team, without waiting for the upstream" name="own_ms" known=${known} times=${times} step=${step} first=${0} />
    <${Times} title="The upstream's time" about="Mean of a purchase of any team" name="upstream_ms" known=${known} times=${times} step=${step} first=${2} />
  </div>`;
}

function Times({ title, about, name, known, times, step, first }) {
  const series = useMemo(() => [{ label: title, values: known.map((one) => one[name] ?? null) }], [known]);
  return html`<${Panel} title=${title} about=${about}>
    <${Chart} kind="lines" caption=${title} times=${times} series=${series} step=${step} first=${first}
      format=${milliseconds} unit="ms" timeLabel=${label(step)} file=${name} />
  <//>`;
}

// -- tables ---------------------------------------------------------------------------------------

const SUMS = [
  { key: "cost_usd", label: "Spend", csv: "Spend (USD)", number: true, cell: (row) => money(row.cost_usd) },
  { key: "saved_usd", label: "Saved", csv: "Saved (USD)", number: true, cell: (row) => money(row.saved_usd) },
  { key: "images_bought", label: "Bought", number: true, cell: (row) => count(row.images_bought) },
  { key: "images_cached", label: "From cache", number: true, cell: (row) => count(row.images_cached) },
  { key: "requests", label: "Requests", number: true, cell: (row) => count(row.requests) },
  { key: "requests_refused", label: "Refused", number: true, cell: (row) => count(row.requests_refused) },
];
const teamLink = (team) => html`<a href=${linkTo(`/teams/${encodeURIComponent(team)}`, { team: "" })}>${team}</a>`;
const TEAM = { key: "team", label: "Team", head: true, cell: (row) => teamLink(row.team) };
const TEAMS = [TEAM, ...SUMS];
const KEYS = [{ key: "key", label: "Key", head: true, cell: (row) => html`<code>${row.key}</code>` }, { ...TEAM, head: false }, ...SUMS];
const DEAREST = { key: "cost_usd", descending: true };

const TopTeams = ({ data }) => html`<${Panel} title="Top teams" about="The ten with the highest spend">
  <${DataTable} caption="Top teams by spend" columns=${TEAMS} rows=${data.teams} rowKey=${(row) => row.team} sort=${DEAREST} file="top-teams"
    empty="No team asked for anything in these days." />
<//>`;

const TopKeys = ({ data }) => html`<${Panel} title="Top keys" about="The ten with the highest spend">
  <${DataTable} caption="Top keys by spend" columns=${KEYS} rows=${data.keys} rowKey=${(row) => row.key} sort=${DEAREST} file="top-keys"
    empty="No key was used in these days." />
<//>`;
