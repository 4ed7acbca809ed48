// The date range in the URL: a preset, or any two days.
import { html, useEffect, useState } from "../html.js";
import { PRESETS, presetOf, today, useRange } from "../dates.js";
import { setQuery } from "../router.js";

const OWN = "own";

export function DateRange() {
  const range = useRange();
  const preset = presetOf(range);
  const [own, setOwn] = useState(preset === null);
  useEffect(() => setOwn(presetOf(range) === null), [range.from, range.to]);
  const choose = (event) => {
    const chosen = PRESETS.find(({ id }) => id === event.currentTarget.value);
    setOwn(!chosen);
    if (chosen) setQuery(chosen.range());
  };
  return html`<div class="date-range" role="group" aria-label="Date range, UTC">
    <label class="inline">
      <span>Period</span>
      <select value=${own ? OWN : preset?.id} onChange=${choose}>
        ${PRESETS.map(({ id, label }) => html`<option key=${id} value=${id}>${label}</option>`)}
        <option value=${OWN}>Other days</option>
      </select>
    </label>
    ${own && html`<${Days} key=${`${range.from} ${range.to}`} range=${range} />`}
  </div>`;
}

function Days({ range }) {
  const [days, setDays] = useState(range);
  const set = (name) => (event) => setDays({ ...days, [name]: event.currentTarget.value });
  const apply = (event) => {
    event.preventDefault();
    if (days.from && days.to) setQuery(days.from <= days.to ? days : { from: days.to, to: days.from });
  };
  return html`<form class="days" onSubmit=${apply}>
    <label class="inline"><span>From</span>
      <input type="date" required value=${days.from} max=${today()} onInput=${set("from")} /></label>
    <label class="inline"><span>To</span>
      <input type="date" required value=${days.to} max=${today()} onInput=${set("to")} /></label>
    <button>Apply</button>
  </form>`;
}
