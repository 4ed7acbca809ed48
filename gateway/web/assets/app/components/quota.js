// Current usage against limits: a bar for each, with the time of its reset.
import { html } from "../html.js";
import { time } from "../format.js";
import { limitOf } from "../limits.js";
import { Bar } from "./bar.js";

export function QuotaBar({ limit, owner }) {
  const { label, format } = limitOf(limit.limit);
  return html`<${Bar} label=${`${owner}, ${label}`} used=${limit.used} held=${limit.held} size=${limit.size} format=${format} />`;
}

// All limits of one owner, one below the other.
export function Quotas({ limits, owner }) {
  return html`<dl class="quotas">${limits.map((limit) => html`<div key=${limit.limit}>
    <dt>${limitOf(limit.limit).label}</dt>
    <dd>
      <${QuotaBar} limit=${limit} owner=${owner} />
      ${limit.resets_at && html`<span class="muted">Resets ${time(limit.resets_at)}</span>`}
    </dd>
  </div>`)}</dl>`;
}
