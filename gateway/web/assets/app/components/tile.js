// A number with its name, and its change since the previous period as a symbol and in words.
import { html } from "../html.js";

const SIGNS = { up: "▲", down: "▼", same: "•", none: "•" };

// `change` comes from `format.change`; `before` is the value of the previous period, as text.
export function Tile({ label, value, detail, change, before }) {
  return html`<div class="tile">
    <dt>${label}</dt>
    <dd>
      <span class="tile-value">${value}</span>
      ${detail && html`<span class="tile-detail">${detail}</span>`}
      ${change && html`<span class="tile-change">
        <span aria-hidden="true" class=${`sign ${change.direction}`}>${SIGNS[change.direction]}</span>
        ${change.text}${change.direction !== "none" && before && html`<span class="muted">, was ${before}</span>`}
      </span>`}
    </dd>
  </div>`;
}

export const Tiles = ({ children }) => html`<dl class="tiles">${children}</dl>`;
