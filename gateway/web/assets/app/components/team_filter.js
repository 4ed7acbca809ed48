// The team filter in the URL. Typing finds one of a thousand teams faster than scrolling.
import { html, useEffect, useId, useState } from "../html.js";
import { getCached, useLoad } from "../api.js";
import { setQuery, useQuery } from "../router.js";

export function TeamFilter() {
  const team = useQuery("team");
  const [text, setText] = useState(team);
  const [unknown, setUnknown] = useState("");
  const known = useLoad(() => getCached("teams"), []);
  const names = (known.data?.teams ?? []).map((found) => found.team);
  const list = useId();
  useEffect(() => setText(team), [team]);

  const choose = (name) => {
    setText(name);
    setUnknown("");
    if (name !== team) setQuery({ team: name });
  };
  const typed = (event) => {
    const value = event.currentTarget.value;
    setText(value);
    setUnknown("");
    const picked = !event.inputType || event.inputType === "insertReplacementText";
    if (value === "" || (picked && names.includes(value))) choose(value);
  };
  const entered = (event) => {
    event.preventDefault();
    const value = text.trim();
    if (value === team) return;
    const found = names.filter((name) => name.startsWith(value));
    if (value === "" || names.includes(value) || !names.length) choose(value);
    else if (found.length === 1) choose(found[0]);
    else setUnknown(found.length ? `${found.length} teams start with this.` : "There is no such team.");
  };
  return html`<form class="team-filter" role="search" aria-label="Team" onSubmit=${entered}>
    <label class="inline"><span>Team</span>
      <input type="text" list=${list} value=${text} placeholder="All teams" autocomplete="off"
        spellcheck=${false} onInput=${typed} onChange=${entered} /></label>
    <datalist id=${list}>${names.map((name) => html`<option key=${name} value=${name}></option>`)}</datalist>
    ${team && html`<button type="button" class="quiet" onClick=${() => choose("")}>All teams</button>`}
    <span class="fault" role="status">${unknown}</span>
  </form>`;
}
