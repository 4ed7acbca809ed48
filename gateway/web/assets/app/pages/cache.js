// How the cache of this gateway does, what is asked for most, and emptying it.
import { html, useState } from "../html.js";
import { get, send, useLoad } from "../api.js";
import { CopyButton } from "../components/copy.js";
import { Confirm } from "../components/dialog.js";
import { Empty, Loaded, Notice } from "../components/notice.js";
import { Page, Panel } from "../components/page.js";
import { DataTable } from "../components/table.js";
import { TeamFilter } from "../components/team_filter.js";
import { Tile, Tiles } from "../components/tile.js";
import { bytes, count, counted, percent, seconds } from "../format.js";
import { useQuery } from "../router.js";
import { announce, useMayChange } from "../state.js";

export function Cache() {
  const load = useLoad(async (signal) => {
    const [cache, top] = await Promise.all([get("cache", {}, signal), get("cache/top", { limit: 100 }, signal)]);
    return { cache, entries: top.entries };
  }, []);
  const team = useQuery("team");
  const [open, setOpen] = useState(null);
  const mayChange = useMayChange();
  const all = team ? { what: `the answers of ${team}`, body: { team } } : { what: "all answers", body: { all: true } };
  const actions = mayChange && load.data && html`<button type="button" onClick=${() => setOpen(all)}>
    Forget ${all.what}</button>`;
  return html`<${Page} title="Cache" about="Of this gateway, since it was started" filters=${html`<${TeamFilter} />`} actions=${actions}>
    <${Loaded} load=${load} lines=${4} height="96px" title="The cache could not be loaded">
      ${({ cache, entries }) => html`
        ${!cache.enabled && html`<${Notice} kind="warning" title="The cache is off"><p>Every request is bought: [cache] enabled in the configuration.</p><//>`}
        <${Numbers} cache=${cache} />
        <${Evictions} evictions=${cache.memory.evictions} />
        <${Top} entries=${team ? entries.filter((entry) => entry.team === team) : entries} forget=${mayChange && setOpen} />`}
    <//>
    ${open && html`<${Purge} ...${open} onClose=${() => setOpen(null)} reload=${load.reload} />`}
  <//>`;
}

const ratio = ({ hits, misses }) => (hits + misses ? hits / (hits + misses) : null);

function Numbers({ cache: { memory, redis, max_bytes } }) {
  return html`<${Tiles}>
    <${Tile} label="Hit ratio" value=${percent(ratio(memory))} detail=${`${count(memory.hits)} of ${counted(memory.hits + memory.misses, "look-up")} in memory`} />
    <${Tile} label="In memory" value=${bytes(memory.bytes)} detail=${`of ${bytes(max_bytes)}, ${counted(memory.entries, "answer")}`} />
    ${redis ? html`<${Tile} label="Hit ratio of Redis" value=${percent(ratio(redis))} detail=${`${count(redis.hits)} of ${counted(redis.hits + redis.misses, "look-up")} that memory missed`} />`
      : html`<${Tile} label="Shared cache" value="none" detail="each gateway keeps its own answers" />`}
  <//>`;
}

const WHY = { expired: "their time was over", replaced: "a fresh answer came", size: "to make room" };

function Evictions({ evictions }) {
  const rows = Object.entries(evictions ?? {}).map(([reason, number]) => ({ reason, number }));
  if (!rows.some(({ number }) => number)) return null;
  const columns = [
    { key: "reason", label: "Why", head: true, cell: (row) => WHY[row.reason] ?? row.reason },
    { key: "number", label: "Answers", number: true, cell: (row) => count(row.number) },
  ];
  return html`<${Panel} title="Answers let go"><${DataTable} caption="Answers let go, by reason" columns=${columns} rows=${rows} rowKey=${(row) => row.reason} /><//>`;
}

const short = (fingerprint) => fingerprint.slice(0, 16);

const TOP = [
  { key: "fingerprint", label: "Request", head: true, cell: (row) => html`<code>${short(row.fingerprint)}</code>` },
  { key: "team", label: "Team", cell: (row) => row.team ?? "–" },
  { key: "model", label: "Model", class: "nowrap" },
  { key: "size", label: "Size", class: "nowrap", csv: [["Size", (row) => row.size], ["Quality", (row) => row.quality]], cell: (row) => [row.size, row.quality].filter(Boolean).join(", ") || "–" },
  { key: "hits", label: "Hits", number: true, cell: (row) => count(row.hits) },
  { key: "bytes", label: "Weight", csv: "Weight (bytes)", number: true, cell: (row) => bytes(row.bytes) },
  { key: "age_seconds", label: "Age", csv: "Age (s)", number: true, cell: (row) => seconds(row.age_seconds) },
  { key: "expires_seconds", label: "Ends in", csv: "Ends in (s)", number: true, cell: (row) => seconds(row.expires_seconds) },
];
const PROMPT = { key: "prompt", label: "Prompt", cell: (row) => row.prompt ?? "–" };

const forgetColumn = (forget) => ({
  key: "forget", label: "Actions", sort: false, csv: false,
  cell: ({ fingerprint }) => html`<span class="row-actions">
    <${CopyButton} text=${fingerprint} what="Fingerprint" quiet />
    <button type="button" class="quiet" onClick=${() => forget({ what: `the answer to ${short(fingerprint)}`, body: { fingerprint } })}>
      Forget<span class="visually-hidden"> ${short(fingerprint)}</span></button></span>`,
});

function Top({ entries, forget }) {
  const prompts = entries.some(({ prompt }) => prompt !== null) ? [PROMPT] : [];
  const columns = [...TOP, ...prompts, ...(forget ? [forgetColumn(forget)] : [])];
  return html`<${Panel} title="Most repeated requests" about="Answers in this gateway's memory, by hits">
    <${DataTable} caption="Most repeated requests" columns=${columns} rows=${entries} rowKey=${(row) => row.fingerprint} sort=${{ key: "hits", descending: true }} file="cache"
      empty=${html`<${Empty} title="No answers are kept"><p>The first identical requests fill the cache.</p><//>`} />
  <//>`;
}

function Purge({ what, body, onClose, reload }) {
  const act = async () => {
    await send("POST", "cache/purge", body);
    announce(`Forgotten: ${what}.`, { shown: true });
    reload();
  };
  return html`<${Confirm} title=${`Forget ${what}?`} action="Forget" danger act=${act} onClose=${onClose}>
    <p>On all gateways of this store. What is forgotten is bought again, for its price, when it is next asked for.</p>
  <//>`;
}
