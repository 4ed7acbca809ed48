// Open and unknown purchases, and refunds of unknown charges.
import { html, useState } from "../html.js";
import { get, send, useLoad } from "../api.js";
import { countColumn, moneyColumn, sizeColumn, teamColumn, timeColumn } from "../components/columns.js";
import { Dialog } from "../components/dialog.js";
import { TextField } from "../components/field.js";
import { FormDialog } from "../components/form_dialog.js";
import { Empty, Loaded } from "../components/notice.js";
import { Page } from "../components/page.js";
import { Pages } from "../components/pages.js";
import { DataTable } from "../components/table.js";
import { TeamFilter } from "../components/team_filter.js";
import { counted, money, time } from "../format.js";
import { linkTo, setQuery, useQuery } from "../router.js";
import { announce, useMayChange } from "../state.js";

const AT_ONCE = 200;

const STATES = { open: "Open", unknown: "Unknown", refunded: "Refunded" };

export function Purchases() {
  const [team, state] = ["team", "state"].map(useQuery);
  const mayChange = useMayChange();
  const [open, setOpen] = useState(null);
  const asked = { team, state, limit: AT_ONCE };
  const load = useLoad((signal) => get("purchases", asked, signal), [team, state]);
  const close = () => setOpen(null);
  const filters = html`<${StateFilter} state=${state} /><${TeamFilter} />`;
  const actions = html`<button type="button" onClick=${load.reload}>Refresh</button>`;
  return html`<${Page} title="Purchases" about="Without a confirmed outcome, the latest first" filters=${filters} actions=${actions}>
    <${Loaded} load=${load} lines=${8} title="The purchases could not be loaded">
      ${(first) => html`<div class="panel"><${Pages} first=${first} name="purchases" label="Load older purchases"
        load=${(before) => get("purchases", { ...asked, before })}>
        ${(rows) => html`<${DataTable} caption="Purchases" columns=${[...COLUMNS, actionsColumn(mayChange, setOpen)]} rows=${rows}
          rowKey=${(row) => row.id} file="purchases" empty=${html`<${Nothing} />`} />`}
      <//></div>`}
    <//>
    ${open?.what === "details" && html`<${Details} row=${open.row} onClose=${close} />`}
    ${open?.what === "refund" && html`<${Refund} row=${open.row} onClose=${close} reload=${load.reload} />`}
  <//>`;
}

const StateFilter = ({ state }) => html`<label class="inline"><span>State</span>
  <select value=${state} onChange=${(event) => setQuery({ state: event.currentTarget.value })}>
    <option value="">All</option>
    ${Object.entries(STATES).map(([value, label]) => html`<option key=${value} value=${value}>${label}</option>`)}
  </select></label>`;

const Nothing = () => html`<${Empty} title="No such purchases">
  <p>A purchase appears here while it is open, and stays if its delivery cannot be confirmed.</p>
<//>`;

const request = ({ request_id: id }) => (id ? html`<a href=${linkTo("/activity", { id })}><code>${id}</code></a>` : "–");

const COLUMNS = [
  timeColumn("at", "Time", { head: true }),
  teamColumn(),
  { key: "state", label: "State", value: (row) => STATES[row.state] },
  sizeColumn,
  countColumn("images", "Images"),
  moneyColumn("cost_usd", "Cost"),
  { key: "request_id", label: "Request", class: "breaks", cell: request,
    csv: [["Request", (row) => row.request_id], ["Id", (row) => row.id], ["Key", (row) => row.key], ["Refunded by", (row) => row.refunded?.who], ["Reason", (row) => row.refunded?.why]] },
];

const actionsColumn = (mayChange, setOpen) => ({
  key: "actions",
  label: "Actions",
  sort: false,
  csv: false,
  cell: (row) => html`<span class="row-actions">
    <${Action} what="details" label="Details" row=${row} setOpen=${setOpen} />
    ${mayChange && row.state === "unknown" && html`<${Action} what="refund" label="Refund" row=${row} setOpen=${setOpen} />`}
  </span>`,
});

const Action = ({ what, label, row, setOpen }) => html`<button type="button" class="quiet" onClick=${() => setOpen({ what, row })}>
  ${label}<span class="visually-hidden"> ${row.id}</span></button>`;

function Details({ row, onClose }) {
  const { refunded } = row;
  const facts = [
    ["Id", html`<code>${row.id}</code>`],
    ["State", STATES[row.state]],
    ["Reserved", time(row.at)],
    ["Team", row.team],
    ["Key", html`<code>${row.key}</code>`],
    ["Request", request(row)],
    ["Model", row.model],
    ["Size, quality", `${row.size}, ${row.quality}`],
    [row.state === "open" ? "Held" : "Charged", `${counted(row.images, "image")}, ${money(row.cost_usd)}`],
    ...(refunded ? [["Refunded", time(refunded.at)], ["By", refunded.who], ["Reason", refunded.why]] : []),
  ];
  return html`<${Dialog} title="Purchase" onClose=${onClose} wide>
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <div class="dialog-actions"><button type="button" onClick=${onClose}>Close</button></div>
  <//>`;
}

function Refund({ row, onClose, reload }) {
  const [why, setWhy] = useState("");
  const refund = async () => {
    await send("POST", `purchases/${row.id}/refund`, { why });
    announce(`Refunded ${money(row.cost_usd)} of team ${row.team}.`, { shown: true });
    reload();
  };
  return html`<${FormDialog} title=${`Refund ${money(row.cost_usd)} of ${row.team}?`} action="Refund" send=${refund} onClose=${onClose}>
    <p>Budgets and usage fall by ${counted(row.images, "image")}, ${money(row.cost_usd)}, in the day and month of ${time(row.at)}.
      Refund only what the provider did not bill. This cannot be undone.</p>
    <${TextField} name="why" label="Reason" hint="For the audit log, for example “not on the invoice of May”."
      value=${why} set=${setWhy} required maxlength="300" spellcheck=${true} />
  <//>`;
}
