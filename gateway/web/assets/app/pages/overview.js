// Spend, images and latency of a period, compared with the previous period.
import { html, useMemo } from "../html.js";
import { get, useLoad } from "../api.js";
import { Chart } from "../components/chart.js";
import { codeColumn, countColumn, moneyColumn, teamColumn } from "../components/columns.js";
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

const Nothing = ({ team }) => html`<${Empty} title="No requests in this period">
  <p>${team ? html`Team <b>${team}</b> sent no requests. Select another period, or <a href=${linkTo("/", { team: "" })}>all teams</a>.`
    : "Numbers appear here within a second after the first request. Select another period, or create a team and a key."}</p>
<//>`;

// -- tiles ----------------------------------------------------------------------------------------

const SO_FAR = { direction: "same", text: "so far" };
const span = (first, last) => (first === last ? day(first) : `${day(first)} to ${day(last)}`);
const images = ({ images_bought, images_cached }) => images_bought + images_cached;

// A day that has not ended is not compared with a whole day. In a longer range a note mentions it.
function Numbers({ data: { now, before, from, to, before_from, before_to } }) {
  const open = to >= today();
  const against = open && from >= daysBefore(1) ? () => SO_FAR : change;
  const shares = against === change ? changeOfShare : against;
  const unknown = now.images_unknown ? ` (${count(now.images_unknown)} unconfirmed)` : "";
  const parts = [`${count(now.images_bought)} bought${unknown}`, `${count(now.images_cached)} from cache or shared`];
  return html`<${Tiles}>
      <${Tile} label="Spend" value=${money(now.cost_usd)} detail=${`${count(now.requests)} requests, ${count(now.requests_refused)} refused`}
        change=${against(now.cost_usd, before.cost_usd, "spend")} before=${money(before.cost_usd)} />
      <${Tile} label="Images" value=${count(images(now))} detail=${parts.join(", ")}
        change=${against(images(now), images(before), "images")} before=${count(images(before))} />
      <${Tile} label="Hit ratio" value=${percent(now.hit_ratio)} detail="of images served without a new purchase"
        change=${shares(now.hit_ratio, before.hit_ratio)} before=${percent(before.hit_ratio)} />
      <${Tile} label="Saved" value=${money(now.saved_usd)} detail="price of the images served without a new purchase"
        change=${against(now.saved_usd, before.saved_usd, "savings")} before=${money(before.saved_usd)} />
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
  if (!series.length) return html`<${Panel} title=${title}><${Empty} title="No purchases in this period" /><//>`;
  return html`<${Panel} title=${title} about="US dollars, stacked by team, UTC">
    <${Chart} caption=${`${title}, by team`} times=${times} series=${series} step=${step}
      format=${money} axis=${axisMoney} unit="USD" timeLabel=${label(step)} file="spend" />
  <//>`;
}

// Means over the whole period, with gaps where no request was timed.
function Latency({ data: { days, latency } }) {
  const times = useMemo(() => days.map(stamp), [days]);
  const known = useMemo(() => {
    const timed = new Map(latency.filter(({ requests }) => requests > 0).map((one) => [one.day, one]));
    return days.map((one) => timed.get(one) ?? {});
  }, [days, latency]);
  const step = isHourly(days) ? HOUR : DAY;
  if (!latency.some(({ requests }) => requests > 0)) {
    return html`<${Panel} title="Latency"><${Empty} title="No timed requests in this period" /><//>`;
  }
  return html`<div class="halves">
    <${Times} title="Gateway latency" about="Mean per request of all teams, without waiting for the upstream" name="own_ms" known=${known} times=${times} step=${step} first=${0} />
    <${Times} title="Upstream latency" about="Mean per purchase of all teams" name="upstream_ms" known=${known} times=${times} step=${step} first=${2} />
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
  moneyColumn("cost_usd", "Spend"),
  moneyColumn("saved_usd", "Saved"),
  countColumn("images_bought", "Bought"),
  countColumn("images_cached", "From cache"),
  countColumn("requests", "Requests"),
  countColumn("requests_refused", "Refused"),
];
const TEAMS = [teamColumn({ head: true }), ...SUMS];
const KEYS = [codeColumn("key", "Key", { head: true }), teamColumn(), ...SUMS];
const BY_SPEND = { key: "cost_usd", descending: true };

const TopTeams = ({ data }) => html`<${Panel} title="Top teams" about="The ten with the highest spend">
  <${DataTable} caption="Top teams by spend" columns=${TEAMS} rows=${data.teams} rowKey=${(row) => row.team} sort=${BY_SPEND} file="top-teams"
    empty="No team sent requests in this period." />
<//>`;

const TopKeys = ({ data }) => html`<${Panel} title="Top keys" about="The ten with the highest spend">
  <${DataTable} caption="Top keys by spend" columns=${KEYS} rows=${data.keys} rowKey=${(row) => row.key} sort=${BY_SPEND} file="top-keys"
    empty="No key was used in this period." />
<//>`;
