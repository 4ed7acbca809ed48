// The cache of this gateway: its numbers, the most repeated requests, and purges.
import { html, useState } from "../html.js";
import { get, send, useLoad } from "../api.js";
import { countColumn, sizeColumn, teamColumn } from "../components/columns.js";
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
  const all = team ? { what: `the cache of ${team}`, body: { team } } : { what: "the whole cache", body: { all: true } };
  const actions = mayChange && load.data && html`<button type="button" onClick=${() => setOpen(all)}>
    ${team ? `Purge cache of ${team}` : "Purge cache"}</button>`;
  return html`<${Page} title="Cache" about="This gateway, since its start" filters=${html`<${TeamFilter} />`} actions=${actions}>
    <${Loaded} load=${load} lines=${4} height="96px" title="The cache could not be loaded">
      ${({ cache, entries }) => html`
        ${!cache.enabled && html`<${Notice} kind="warning" title="The cache is off"><p>Every request buys new images. To switch it on, set [cache] enabled in gateway.toml.</p><//>`}
        <${Numbers} cache=${cache} />
        <${Evictions} evictions=${cache.memory.evictions} />
        <${Top} entries=${team ? entries.filter((entry) => entry.team === team) : entries} purge=${mayChange && setOpen} />`}
    <//>
    ${open && html`<${Purge} ...${open} onClose=${() => setOpen(null)} reload=${load.reload} />`}
  <//>`;
}

const ratio = ({ hits, misses }) => (hits + misses ? hits / (hits + misses) : null);

function Behind({ tier, name }) {
  return html`<${Tile} label=${`Hit ratio of ${name}`} value=${percent(ratio(tier))} detail=${`${count(tier.hits)} of ${counted(tier.hits + tier.misses, "look-up")} that memory missed`} />`;
}

function Numbers({ cache: { memory, disk, redis, max_bytes } }) {
  return html`<${Tiles}>
    <${Tile} label="Hit ratio" value=${percent(ratio(memory))} detail=${`${count(memory.hits)} of ${counted(memory.hits + memory.misses, "look-up")} in memory`} />
    <${Tile} label="In memory" value=${bytes(memory.bytes)} detail=${`of ${bytes(max_bytes)}, ${counted(memory.entries, "answer")}`} />
    ${disk && html`<${Behind} tier=${disk} name="the disk" />`}
    ${redis ? html`<${Behind} tier=${redis} name="Redis" />`
      : html`<${Tile} label="Shared cache" value="none" detail="each gateway has its own cache" />`}
  <//>`;
}

const REASONS = { expired: "expired", replaced: "replaced by a newer answer", size: "no room" };

function Evictions({ evictions }) {
  const rows = Object.entries(evictions ?? {}).map(([reason, number]) => ({ reason, number }));
  if (!rows.some(({ number }) => number)) return null;
  const columns = [
    { key: "reason", label: "Reason", head: true, cell: (row) => REASONS[row.reason] ?? row.reason },
    countColumn("number", "Answers"),
  ];
  return html`<${Panel} title="Evictions"><${DataTable} caption="Evicted answers, by reason" columns=${columns} rows=${rows} rowKey=${(row) => row.reason} /><//>`;
}

const short = (fingerprint) => fingerprint.slice(0, 16);

const TOP = [
  { key: "fingerprint", label: "Request", head: true, cell: (row) => html`<code>${short(row.fingerprint)}</code>` },
  teamColumn(),
  { key: "model", label: "Model", class: "nowrap" },
  sizeColumn,
  countColumn("hits", "Hits"),
  { key: "bytes", label: "Stored size", csv: "Stored size (bytes)", number: true, cell: (row) => bytes(row.bytes) },
  { key: "age_seconds", label: "Age", csv: "Age (s)", number: true, cell: (row) => seconds(row.age_seconds) },
  { key: "expires_seconds", label: "Expires in", csv: "Expires in (s)", number: true, cell: (row) => seconds(row.expires_seconds) },
];
const PROMPT = { key: "prompt", label: "Prompt", cell: (row) => row.prompt ?? "–" };

const purgeColumn = (purge) => ({
  key: "purge", label: "Actions", sort: false, csv: false,
  cell: ({ fingerprint }) => html`<span class="row-actions">
    <${CopyButton} text=${fingerprint} what="Fingerprint" quiet />
    <button type="button" class="quiet" onClick=${() => purge({ what: `the answer to ${short(fingerprint)}`, body: { fingerprint } })}>
      Purge<span class="visually-hidden"> ${short(fingerprint)}</span></button></span>`,
});

function Top({ entries, purge }) {
  const prompts = entries.some(({ prompt }) => prompt !== null) ? [PROMPT] : [];
  const columns = [...TOP, ...prompts, ...(purge ? [purgeColumn(purge)] : [])];
  return html`<${Panel} title="Most repeated requests" about="Answers in this gateway's memory, by cache hits">
    <${DataTable} caption="Most repeated requests" columns=${columns} rows=${entries} rowKey=${(row) => row.fingerprint} sort=${{ key: "hits", descending: true }} file="cache"
      empty=${html`<${Empty} title="No repeated requests"><p>A request appears here after its first cache hit.</p><//>`} />
  <//>`;
}

function Purge({ what, body, onClose, reload }) {
  const act = async () => {
    await send("POST", "cache/purge", body);
    announce(`Purged ${what}.`, { shown: true });
    reload();
  };
  return html`<${Confirm} title=${`Purge ${what}?`} action="Purge" danger act=${act} onClose=${onClose}>
    <p>This applies to all gateways of this store. The next request for a purged answer buys it again.</p>
  <//>`;
}
