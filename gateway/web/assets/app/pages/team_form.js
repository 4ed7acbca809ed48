// Creating or changing a team: its limits and its policy.
import { html, useState } from "../html.js";
import { ask, forget } from "../api.js";
import { Field, TextField } from "../components/field.js";
import { FormDialog } from "../components/form_dialog.js";
import { LimitFields } from "../components/limit_fields.js";
import { limitsFrom, textsFrom } from "../limits.js";
import { announce } from "../state.js";

const LISTS = [
  { name: "models", label: "Models", hint: "Names, separated by commas. Empty means all." },
  { name: "sizes", label: "Sizes", hint: "For example 1024x1024, auto. Empty means all." },
  { name: "qualities", label: "Qualities", hint: "For example low, medium. Empty means all." },
];

const FORMS = ["auto", "b64_json", "url", "both", "upstream"];

// `former` is the team to change, with its ETag; null creates a team.
export function TeamForm({ former, etag, onClose, onDone }) {
  const [name, setName] = useState("");
  const [texts, setTexts] = useState(textsFrom(former?.limits));
  const [rules, setRules] = useState(rulesOf(former));
  const set = (field) => (text) => setRules({ ...rules, [field]: text });
  const send = async () => {
    const body = { ...policyFrom(rules), cache: rules.cache, limits: limitsFrom(texts) };
    const team = former?.team ?? name.trim();
    if (former) await ask("PUT", `teams/${encodeURIComponent(team)}`, { body, headers: { "If-Match": etag } });
    else await ask("POST", "teams", { body: { team, ...body } });
    forget("teams");
    announce(former ? `Team ${team} was changed.` : `Team ${team} was created.`, { shown: true });
    onDone(team);
  };
  return html`<${FormDialog} title=${former ? `Change ${former.team}` : "New team"} action=${former ? "Save" : "Create team"}
      send=${send} onClose=${onClose} wide>
    ${!former && html`<${TextField} name="team" label="Name" hint="1-64 letters, digits, dots, dashes or underscores. It cannot be changed later."
      value=${name} set=${setName} required maxlength="64" />`}
    <${LimitFields} texts=${texts} set=${setTexts} legend="Limits of all keys together" />
    <fieldset class="limit-fields">
      <legend>Allowed requests</legend>
      ${LISTS.map(({ name: field, label, hint }) => html`<${TextField} key=${field} name=${field} label=${label} hint=${hint}
        value=${rules[field]} set=${set(field)} />`)}
      <${TextField} name="max_n" label="Images a request" hint="The maximum. Empty means the model's maximum."
        value=${rules.max_n} set=${set("max_n")} type="number" min="1" step="1" />
      <${TextField} name="unknown_hold_seconds" label="Refuse repeats (seconds)" value=${rules.hold} set=${set("hold")} type="number" min="0" step="any"
        hint="How long a repeat of an unknown outcome is refused; 0 buys it again at once. Empty means the gateway's value." />
      <${Field} name="deliver" label="Form of pictures" hint="A request's response_format comes first.">
        ${(attributes) => html`<select ...${attributes} value=${rules.deliver} onChange=${(event) => set("deliver")(event.currentTarget.value)}>
          <option value="">The gateway's</option>
          ${FORMS.map((form) => html`<option key=${form} value=${form}>${form}</option>`)}
        </select>`}
      <//>
      <label class="check"><input type="checkbox" name="cache" checked=${rules.cache}
        onChange=${(event) => setRules({ ...rules, cache: event.currentTarget.checked })} /> Answer identical requests from the cache</label>
    </fieldset>
  <//>`;
}

const rulesOf = (team) => ({
  ...Object.fromEntries(LISTS.map(({ name }) => [name, (team?.[name] ?? []).join(", ")])),
  max_n: team?.max_n ? String(team.max_n) : "",
  hold: String(team?.unknown_hold_seconds ?? ""),
  deliver: team?.deliver ?? "",
  cache: team?.cache ?? true,
});

const number = (text) => (text ? Number(text) : null);

function policyFrom(rules) {
  const lists = LISTS.map(({ name }) => {
    const words = rules[name].split(",").map((word) => word.trim()).filter(Boolean);
    return [name, words.length ? words : null];
  });
  return { ...Object.fromEntries(lists), max_n: number(rules.max_n), unknown_hold_seconds: number(rules.hold), deliver: rules.deliver || null };
}
