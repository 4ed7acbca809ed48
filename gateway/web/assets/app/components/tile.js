// A number with its name, and how it stands against the period before: in a sign and in words.
import { html } from "../html.js";

const SIGNS = { up: "▲", down: "▼", same: "•" };

// `change` is what `format.change` gives; `before` says what it is compared with, as text.
export function Tile({ label, value, detail, change, before }) {
  return html`<div class="tile">
    <dt>${label}</dt>
    <dd>
      <span class="tile-value">${value}</span>
      ${detail && html`<span class="tile-detail">${detail}</span>`}
      ${change && html`<span class="tile-change">
        <span aria-hidden="true" class=${`sign ${change.direction}`}>${SIGNS[change.direction]}</span>
        ${change.text}${before && html`<span class="muted">, was ${before}</span>`}
      </span>`}
    </dd>
  </div>`;
}

export const Tiles = ({ children }) => html`<dl class="tiles">${children}</dl>`;
