// A team's keys: made, changed, rotated, disabled, revoked. A new key's text is shown once.
import { html, useState } from "../html.js";
import { get, send, useLoad } from "../api.js";
import { CopyButton } from "../components/copy.js";
import { Confirm, Dialog } from "../components/dialog.js";
import { Field } from "../components/field.js";
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
  active: "works",
  disabled: "disabled",
  revoked: "revoked",
  expired: "expired",
  retiring: "replaced, still works",
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
        file=${`keys-${team}`} empty=${html`<${Empty} title="No keys yet"><p>Nobody can ask for this team until it has one.</p><//>`} />
    <//>
    ${quotas.map((one) => html`<${Panel} key=${one.line} title=${`Limits of key ${one.name || one.key}`} about="They hold besides the team's">
      <${Quotas} limits=${one.limits} whose=${one.name || one.key} /><//>`)}
    ${open?.what === "new" && html`<${NewKey} team=${team} onClose=${close} onMade=${made} />`}
    ${open?.what === "change" && html`<${ChangeKey} row=${open.row} onClose=${close} reload=${reload} />`}
    ${open?.what === "rotate" && html`<${Rotate} row=${open.row} onClose=${close} onMade=${made} />`}
    ${open?.what === "made" && html`<${Made} made=${open.key} onClose=${close} />`}
    ${open?.what in ACTS && html`<${Act} what=${open.what} row=${open.row} onClose=${close} reload=${reload} />`}`;
}

const COLUMNS = [
  { key: "id", label: "Key", head: true, cell: (row) => html`<code>${row.id}</code>` },
  { key: "name", label: "Name", cell: (row) => row.name || "–" },
  { key: "state", label: "State", value: (row) => STATES[row.state], class: "nowrap" },
  { key: "created", label: "Made (UTC)", class: "nowrap", cell: (row) => time(row.created, { zone: false }) },
  { key: "expires", label: "Ends (UTC)", class: "nowrap", value: ends, cell: (row) => (ends(row) ? time(ends(row), { zone: false }) : "never") },
  { key: "last_used", label: "Last used (UTC)", class: "nowrap", cell: (row) => (row.last_used ? time(row.last_used, { zone: false }) : "never") },
];

// The earlier of the two ends that a key may have.
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
  return html`<${FormDialog} title=${`New key for ${team}`} action="Make key" send=${make} onClose=${onClose} wide>
    <${KeyFields} texts=${texts} set=${setTexts} ends="Such as 90d or 12h; empty means for ever." />
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
    <${KeyFields} texts=${texts} set=${setTexts} ends="From now on, such as 90d, or never to end; empty leaves it as it is." />
  <//>`;
}

// What a key is made and changed with; `texts` has its name, its time and its limits.
function KeyFields({ texts, set, ends }) {
  const typed = (name) => (event) => set({ ...texts, [name]: event.currentTarget.value });
  return html`
    <${Field} name="name" label="Name" hint="What it is for, such as “Figma plugin”.">
      ${(attributes) => html`<input ...${attributes} maxlength="100" autocomplete="off" value=${texts.name} onInput=${typed("name")} />`}
    <//>
    <${Field} name="expires" label="Works for" hint=${ends}>
      ${(attributes) => html`<input ...${attributes} autocomplete="off" spellcheck=${false} value=${texts.expires} onInput=${typed("expires")} />`}
    <//>
    <${LimitFields} texts=${texts} set=${set} legend="Limits of this key, besides the team's" />`;
}

function Rotate({ row, onClose, onMade }) {
  const [grace, setGrace] = useState("24h");
  const rotate = async () => onMade(await send("POST", `keys/${row.id}/rotate`, { grace: grace.trim() }));
  return html`<${FormDialog} title=${`Rotate ${row.id}?`} action="Rotate key" send=${rotate} onClose=${onClose}>
    <p>A new key takes over its name, limits, budgets and history. Both work until the grace ends.</p>
    <${Field} name="grace" label="Grace" hint="How long the old key still works, such as 24h or 7d; 0s for no longer.">
      ${(attributes) => html`<input ...${attributes} required autocomplete="off" spellcheck=${false} value=${grace} onInput=${(event) => setGrace(event.currentTarget.value)} />`}
    <//>
  <//>`;
}

// The only time that a key's text is seen: no stray click or key may lose it.
function Made({ made, onClose }) {
  const config = useLoad((signal) => get("config", {}, signal), []);
  const url = `${config.data?.public_url ?? "http://127.0.0.1:8080"}/v1`;
  const settings = `export OPENAI_BASE_URL=${url}\nexport OPENAI_API_KEY=${made.key}`;
  const curl = `curl ${url}/images/generations \\\n  -H "Authorization: Bearer ${made.key}" \\\n  -H "Content-Type: application/json" \\\n  -d '{"prompt": "A simple red apple on a white table"}'`;
  return html`<${Dialog} title="The new key" onClose=${onClose} wide firm>
    <${Notice} kind="warning"><p>Copy it now: it is shown this one time, and kept nowhere.</p>
      ${made.grace_in_full === false && html`<p>The old key works until ${time(ends(made.replaces))}: that is sooner than the grace.</p>`}
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
  disable: { action: "Disable key", done: "disabled", text: "Requests with it are refused until it is enabled again." },
  enable: { action: "Enable key", done: "enabled", text: "Requests with it are taken again." },
  revoke: { action: "Revoke key", done: "revoked", danger: true, text: "Requests with it are refused everywhere within a second, for good. That cannot be undone." },
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
