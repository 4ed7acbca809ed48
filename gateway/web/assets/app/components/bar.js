// Usage of a limit as a bar and in words: used, held by requests in flight, and left.
import { classes, html } from "../html.js";

const NEAR = 0.8;

// All numbers have the same unit; `format` turns one into text.
export function Bar({ label, used, held = 0, size, format = String }) {
  const [isUsed, isHeld, all] = [used, held, size].map(Number);
  const share = (value) => (all > 0 ? Math.min(1, Math.max(0, value / all)) : value > 0 || all === 0 ? 1 : 0);
  const usedShare = share(isUsed);
  const heldShare = Math.min(1 - usedShare, all > 0 ? share(isHeld) : 0);
  const taken = usedShare + heldShare;
  const left = Math.max(0, all - isUsed - isHeld);
  const words = `${format(used)} used${isHeld > 0 ? `, ${format(held)} held` : ""}, ${format(left)} left of ${format(size)}`;
  const level = taken >= 1 ? "full" : taken >= NEAR ? "near" : "";
  return html`<div class=${classes("bar", level)} role="img" aria-label=${`${label}: ${words}`}>
    <div class="bar-track">
      <span class="bar-used" style=${{ width: `${usedShare * 100}%` }}></span>
      <span class="bar-held" style=${{ width: `${heldShare * 100}%` }}></span>
    </div>
    <span class="bar-words" aria-hidden="true">${words}</span>
  </div>`;
}
