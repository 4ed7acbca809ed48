// A team's keys: create, change, rotate, disable, revoke. A new key's text is shown once.
import { html, useState } from "../html.js";
import { get, send, useLoad } from "../api.js";
import { codeColumn, timeColumn } from "../components/columns.js";
import { CopyButton } from "../components/copy.js";
import { Confirm, Dialog } from "../components/dialog.js";
import { TextField } from "../components/field.js";
import { FormDialog } from "../components/form_dialog.js";
import { LimitFields } from "../components/limit_fields.js";
import { Empty, Notice } from "../components/notice.js";
import { Panel } from "../components/page.js";
import { Quotas } from "../components/quota.js";
import { DataTable } from "../components/table.js";
import { time } from "../format.js";
import { limitsFrom, textsFrom } from "../limits.js";
import { announce } from "../state.js";

const STATES = {
  active: "active",
  disabled: "disabled",
  revoked: "revoked",
  expired: "expired",
  retiring: "replaced, works until its grace period ends",
};

export function Keys({ team, keys, quotas, mayChange, reload }) {
  const [open, setOpen] = useState(null);
  const close = () => setOpen(null);
  const made = (key) => {
    reload();
    setOpen({ what: "made", key });
    return true;
  };
  const tools = mayChange && html`<button type="button" class="main" onClick=${() => setOpen({ what: "new" })}>New key</button>`;
  const columns = mayChange ? [...COLUMNS, actionsColumn(setOpen)] : COLUMNS;
  return html`<${Panel} title="Keys" tools=${tools}>
      <${DataTable} caption=${`Keys of ${team}`} columns=${columns} rows=${keys} rowKey=${(row) => row.id} sort=${{ key: "created", descending: true }}
        file=${`keys-${team}`} empty=${html`<${Empty} title="No keys yet"><p>The team needs a key to send requests.</p><//>`} />
    <//>
    ${quotas.map((one) => html`<${Panel} key=${one.line} title=${`Limits of key ${one.name || one.key}`} about="Key limits apply on top of the team's">
      <${Quotas} limits=${one.limits} owner=${one.name || one.key} /><//>`)}
    ${open?.what === "new" && html`<${NewKey} team=${team} onClose=${close} onMade=${made} />`}
    ${open?.what === "change" && html`<${ChangeKey} row=${open.row} onClose=${close} reload=${reload} />`}
    ${open?.what === "rotate" && html`<${Rotate} row=${open.row} onClose=${close} onMade=${made} />`}
    ${open?.what === "made" && html`<${Made} made=${open.key} onClose=${close} />`}
    ${open?.what in ACTS && html`<${Act} what=${open.what} row=${open.row} onClose=${close} reload=${reload} />`}`;
}

const COLUMNS = [
  codeColumn("id", "Key", { head: true }),
  { key: "name", label: "Name", cell: (row) => row.name || "–" },
  { key: "state", label: "State", value: (row) => STATES[row.state], class: "nowrap" },
  timeColumn("created", "Created"),
  timeColumn("expires", "Expires", { value: ends, cell: (row) => (ends(row) ? time(ends(row), { zone: false }) : "never") }),
  timeColumn("last_used", "Last used", { cell: (row) => (row.last_used ? time(row.last_used, { zone: false }) : "never") }),
];

// When the key stops working: its expiry or the end of its grace, whichever is earlier.
function ends(row) {
  return [row.expires, row.grace_ends].filter(Boolean).sort()[0] ?? "";
}

const actionsColumn = (setOpen) => ({
  key: "actions",
  label: "Actions",
  sort: false,
  csv: false,
  cell: (row) => html`<span class="row-actions">
    ${row.state !== "revoked" && html`<${Action} what="change" label="Change" row=${row} setOpen=${setOpen} />`}
    ${row.state === "active" && html`<${Action} what="rotate" label="Rotate" row=${row} setOpen=${setOpen} />`}
    ${row.state === "active" && html`<${Action} what="disable" label="Disable" row=${row} setOpen=${setOpen} />`}
    ${row.state === "disabled" && html`<${Action} what="enable" label="Enable" row=${row} setOpen=${setOpen} />`}
    ${row.state !== "revoked" && html`<${Action} what="revoke" label="Revoke" row=${row} setOpen=${setOpen} />`}
  </span>`,
});

const Action = ({ what, label, row, setOpen }) => html`<button type="button" class="quiet" onClick=${() => setOpen({ what, row })}>
  ${label}<span class="visually-hidden"> ${row.id}</span></button>`;

// -- new keys -------------------------------------------------------------------------------------

function NewKey({ team, onClose, onMade }) {
  const [texts, setTexts] = useState({ name: "", expires: "", ...textsFrom() });
  const make = async () =>
    onMade(await send("POST", "keys", { team, name: texts.name.trim(), expires: texts.expires.trim() || null, limits: limitsFrom(texts) }));
  return html`<${FormDialog} title=${`New key for ${team}`} action="Create key" send=${make} onClose=${onClose} wide>
    <${KeyFields} texts=${texts} set=${setTexts} ends="For example 90d or 12h. Empty means no expiry." />
  <//>`;
}

function ChangeKey({ row, onClose, reload }) {
  const [texts, setTexts] = useState({ name: row.name, expires: "", ...textsFrom(row.limits) });
  const change = async () => {
    const ends = texts.expires.trim();
    const expires = ends ? { expires: ends === "never" ? null : ends } : {};
    await send("PATCH", `keys/${row.id}`, { name: texts.name.trim(), ...expires, limits: limitsFrom(texts) });
    announce(`Key ${row.id} was changed.`, { shown: true });
    reload();
  };
  return html`<${FormDialog} title=${`Change ${row.id}`} action="Save" send=${change} onClose=${onClose} wide>
    <${KeyFields} texts=${texts} set=${setTexts} ends="Counted from now, for example 90d, or never. Empty keeps the current expiry." />
  <//>`;
}

// The fields of a key; `texts` has its name, its lifetime and its limits.
function KeyFields({ texts, set, ends }) {
  const typed = (name) => (text) => set({ ...texts, [name]: text });
  return html`
    <${TextField} name="name" label="Name" hint="The key's purpose, for example “Figma plugin”."
      value=${texts.name} set=${typed("name")} maxlength="100" spellcheck=${true} />
    <${TextField} name="expires" label="Expires in" hint=${ends} value=${texts.expires} set=${typed("expires")} />
    <${LimitFields} texts=${texts} set=${set} legend="Limits of this key, on top of the team's" />`;
}

function Rotate({ row, onClose, onMade }) {
  const [grace, setGrace] = useState("24h");
  const rotate = async () => onMade(await send("POST", `keys/${row.id}/rotate`, { grace: grace.trim() }));
  return html`<${FormDialog} title=${`Rotate ${row.id}?`} action="Rotate key" send=${rotate} onClose=${onClose}>
    <p>The new key takes over the name, limits, budgets and history. Both keys work until the grace period ends.</p>
    <${TextField} name="grace" label="Grace period" hint="How long the old key still works, for example 24h or 7d. 0s stops it at once."
      value=${grace} set=${setGrace} required />
  <//>`;
}

// The key's text appears only here, so no stray click or key may close the dialog.
function Made({ made, onClose }) {
  const config = useLoad((signal) => get("config", {}, signal), []);
  const url = `${config.data?.public_url ?? "http://127.0.0.1:8080"}/v1`;
  const settings = `export OPENAI_BASE_URL=${url}\nexport OPENAI_API_KEY=${made.key}`;
  const curl = `curl ${url}/images/generations \\\n  -H "Authorization: Bearer ${made.key}" \\\n  -H "Content-Type: application/json" \\\n  -d '{"prompt": "A simple red apple on a white table"}'`;
  return html`<${Dialog} title="The new key" onClose=${onClose} wide firm>
    <${Notice} kind="warning"><p>Copy the key now. It is not stored and cannot be shown again.</p>
      ${made.grace_in_full === false && html`<p>The old key stops at ${time(ends(made.replaces))}, before the grace period ends.</p>`}
    <//>
    <${Copied} label="Key" text=${made.key} />
    <${Copied} label="For OpenAI clients" text=${settings} />
    <${Copied} label="To try it" text=${curl} />
    <div class="dialog-actions"><button type="button" class="main" onClick=${onClose}>I have copied it</button></div>
  <//>`;
}

const Copied = ({ label, text }) => html`<section class="copied" aria-label=${label}>
  <div class="panel-head"><h3>${label}</h3><${CopyButton} text=${text} what=${label} /></div>
  <pre tabindex="0"><code>${text}</code></pre>
</section>`;

// -- changes of state -----------------------------------------------------------------------------

const ACTS = {
  disable: { action: "Disable key", done: "disabled", text: "The gateway refuses its requests until it is enabled again." },
  enable: { action: "Enable key", done: "enabled", text: "The gateway accepts its requests again." },
  revoke: { action: "Revoke key", done: "revoked", danger: true, text: "All gateways refuse its requests within a second. This cannot be undone." },
};

function Act({ what, row, onClose, reload }) {
  const { action, done, text, danger = false } = ACTS[what];
  const act = async () => {
    await send("POST", `keys/${row.id}/${what}`, {});
    announce(`Key ${row.id} was ${done}.`, { shown: true });
    reload();
  };
  return html`<${Confirm} title=${`${action.split(" ")[0]} ${row.id}?`} action=${action} danger=${danger} act=${act} onClose=${onClose}>
    <p>${text}${row.name && html` Its name is <b>${row.name}</b>.`}</p>
  <//>`;
}
