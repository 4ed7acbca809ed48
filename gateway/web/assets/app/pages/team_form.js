// Making a team, and changing one: its limits and what it may ask for.
import { html, useState } from "../html.js";
import { ask, forget } from "../api.js";
import { Field } from "../components/field.js";
import { FormDialog } from "../components/form_dialog.js";
import { LimitFields } from "../components/limit_fields.js";
import { limitsFrom, textsFrom } from "../limits.js";
import { announce } from "../state.js";

const LISTS = [
  { name: "models", label: "Models", hint: "Names with commas between; empty means all." },
  { name: "sizes", label: "Sizes", hint: "Such as 1024x1024, auto; empty means all." },
  { name: "qualities", label: "Qualities", hint: "Such as low, medium; empty means all." },
];

// `former` is the team as it was read, with its ETag; null makes a new one.
export function TeamForm({ former, etag, onClose, onDone }) {
  const [name, setName] = useState("");
  const [texts, setTexts] = useState(textsFrom(former?.limits));
  const [rules, setRules] = useState(rulesOf(former));
  const set = (field) => (event) => setRules({ ...rules, [field]: event.currentTarget.value });
  const send = async () => {
    const body = { ...listsFrom(rules), cache: rules.cache, limits: limitsFrom(texts) };
    const team = former?.team ?? name.trim();
    if (former) await ask("PUT", `teams/${encodeURIComponent(team)}`, { body, headers: { "If-Match": etag } });
    else await ask("POST", "teams", { body: { team, ...body } });
    forget("teams");
    announce(former ? `Team ${team} was changed.` : `Team ${team} was made.`, { shown: true });
    onDone(team);
  };
  return html`<${FormDialog} title=${former ? `Change ${former.team}` : "New team"} action=${former ? "Save" : "Make team"}
      send=${send} onClose=${onClose} wide>
    ${!former && html`<${Field} name="team" label="Name" hint="Letters, digits, dots, dashes and underscores. It cannot be changed later.">
      ${(attributes) => html`<input ...${attributes} required maxlength="64" autocomplete="off" spellcheck=${false}
        value=${name} onInput=${(event) => setName(event.currentTarget.value)} />`}
    <//>`}
    <${LimitFields} texts=${texts} set=${setTexts} legend="Limits of all its keys together" />
    <fieldset class="limit-fields">
      <legend>What it may ask for</legend>
      ${LISTS.map(({ name: field, label, hint }) => html`<${Field} key=${field} name=${field} label=${label} hint=${hint}>
        ${(attributes) => html`<input ...${attributes} autocomplete="off" spellcheck=${false} value=${rules[field]} onInput=${set(field)} />`}
      <//>`)}
      <${Field} name="max_n" label="Images a request" hint="At most; empty means what the model allows.">
        ${(attributes) => html`<input ...${attributes} type="number" min="1" step="1" value=${rules.max_n} onInput=${set("max_n")} />`}
      <//>
      <label class="check"><input type="checkbox" name="cache" checked=${rules.cache}
        onChange=${(event) => setRules({ ...rules, cache: event.currentTarget.checked })} /> Answer identical requests from the cache</label>
    </fieldset>
  <//>`;
}

const rulesOf = (team) => ({
  ...Object.fromEntries(LISTS.map(({ name }) => [name, (team?.[name] ?? []).join(", ")])),
  max_n: team?.max_n ? String(team.max_n) : "",
  cache: team?.cache ?? true,
});

function listsFrom(rules) {
  const lists = LISTS.map(({ name }) => {
    const words = rules[name].split(",").map((word) => word.trim()).filter(Boolean);
    return [name, words.length ? words : null];
  });
  return { ...Object.fromEntries(lists), max_n: rules.max_n ? Number(rules.max_n) : null };
}
