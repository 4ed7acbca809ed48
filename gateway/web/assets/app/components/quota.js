// How limits stand: a bar each, with the time when it begins anew.
import { html } from "../html.js";
import { time } from "../format.js";
import { limitOf } from "../limits.js";
import { Bar } from "./bar.js";

export function QuotaBar({ limit, whose }) {
  const { label, format } = limitOf(limit.limit);
  return html`<${Bar} label=${`${whose}, ${label}`} used=${limit.used} held=${limit.held} size=${limit.size} format=${format} />`;
}

// All limits of somebody, one below the other.
export function Quotas({ limits, whose }) {
  return html`<dl class="quotas">${limits.map((limit) => html`<div key=${limit.limit}>
    <dt>${limitOf(limit.limit).label}</dt>
    <dd>
      <${QuotaBar} limit=${limit} whose=${whose} />
      ${limit.resets_at && html`<span class="muted">Resets ${time(limit.resets_at)}</span>`}
    </dd>
  </div>`)}</dl>`;
}
