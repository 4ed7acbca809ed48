// Numbers, money and times as text. Money comes as decimal text; times are UTC.

const NONE = "–";
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const usd = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });
const exactUsd = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", maximumFractionDigits: 6 });
const compactUsd = new Intl.NumberFormat("en-US", {
  style: "currency", currency: "USD", notation: "compact", maximumFractionDigits: 1,
});
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

const absent = (value) => value === null || value === undefined;

// "$1,234.56". Amounts below $10 also show fractions of a cent: "$0.006", "$1.065".
export function money(text) {
  if (absent(text)) return NONE;
  const value = Number(text);
  return (Math.abs(value) < 10 ? exactUsd : usd).format(value);
}

// For an axis, all with the same number of decimals: ["$0.25", "$0.50"], ["$500", "$1K"].
export function axisMoney(values) {
  if (values.some((value) => value >= 1_000)) return values.map((value) => compactUsd.format(value));
  const most = Math.max(...values.map((value) => (String(Number(value.toPrecision(6))).split(".")[1] ?? "").length));
  return values.map((value) => `$${value.toFixed(most === 1 ? 2 : most)}`);
}

export const count = (value) => (absent(value) ? NONE : whole.format(value));
export const shortCount = (value) => compact.format(value);

// A count with its word: "1 image", "1,204 images".
export const counted = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

// Outcomes of requests in words; the API calls a purchase "miss" and a shared purchase "collapsed".
const OUTCOMES = { miss: "bought", hit: "cache hit", collapsed: "shared" };

export const outcomeWord = (outcome) => OUTCOMES[outcome] ?? outcome;

// The outcome's name in the API, for its word.
export const outcomeName = (word) => Object.keys(OUTCOMES).find((name) => OUTCOMES[name] === word) ?? word;

// Why a request failed: the limit that refused it with its usage, or the upstream's answer; "" if unknown.
export function cause({ refused_by: by, upstream_status: status, reason }) {
  if (!by) return [status && `Upstream ${status}`, reason].filter(Boolean).join(": ");
  const held = Number(by.held) ? ` and ${by.held} held` : "";
  const resets = by.resets_at ? `, resets at ${time(by.resets_at)}` : "";
  return `${by.limit} of ${[by.scope, by.owner].filter(Boolean).join(" ")}: ${by.used}${held} of ${by.size} used, ${by.asked} asked${resets}`;
}

// A share from 0 to 1: "42.5 %".
export const percent = (share, digits = 1) =>
  absent(share) ? NONE : `${(share * 100).toFixed(digits)} %`;

// Milliseconds: "0.8 ms", "340 ms", "12.4 s".
export function milliseconds(value) {
  if (absent(value)) return NONE;
  if (value === 0) return "0 ms";
  if (value < 10) return `${value.toFixed(1)} ms`;
  if (value < 1_000) return `${Math.round(value)} ms`;
  return value < 100_000 ? `${(value / 1_000).toFixed(1)} s` : `${whole.format(value / 1_000)} s`;
}

// Seconds as the two largest parts: "2 d 3 h", "4 min 10 s".
export function seconds(value) {
  if (absent(value)) return NONE;
  let rest = Math.max(0, Math.round(value));
  const parts = [];
  for (const [size, unit] of [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]]) {
    if (rest >= size) parts.push(`${Math.floor(rest / size)} ${unit}`);
    rest %= size;
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

export function bytes(value) {
  if (absent(value)) return NONE;
  let size = value;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (size < 1_024 || unit === "GiB") return `${unit === "B" ? size : size.toFixed(1)} ${unit}`;
    size /= 1_024;
  }
  return NONE;
}

// "2026-11-22 13:04:05 UTC", or without the zone for a column whose head says it.
export function time(text, { zone = true } = {}) {
  if (!text) return NONE;
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return text;
  const shown = at.toISOString().slice(0, 19).replace("T", " ");
  return zone ? `${shown} UTC` : shown;
}

// A day of ISO 8601 as "22 Nov 2026" and, for axes, "22 Nov".
export function day(text, { year = true } = {}) {
  const [of, month, date] = text.slice(0, 10).split("-").map(Number);
  return `${date} ${MONTHS[month - 1]}${year ? ` ${of}` : ""}`;
}

// The change from a previous value: { direction: "up" | "down" | "same" | "none", text }. "none":
// there is no previous value. `what` names the value.
export function change(now, before, what) {
  if (absent(now) || absent(before)) return NO_COMPARISON;
  const [is, was] = [Number(now), Number(before)];
  if (is === was) return { direction: "same", text: "no change" };
  const direction = is > was ? "up" : "down";
  if (was === 0) return { direction: "none", text: `No ${what} in the previous period` };
  const share = Math.abs(is / was - 1) * 100;
  const shown = share >= 1_000 ? `${(is / was).toFixed(0)}-fold` : `${share < 10 ? share.toFixed(1) : share.toFixed(0)} %`;
  return { direction, text: `${direction} ${shown}` };
}

const NO_COMPARISON = { direction: "none", text: "No images to compare with" };

// The same for shares, in percentage points.
export function changeOfShare(now, before) {
  if (absent(now) || absent(before)) return NO_COMPARISON;
  const points = (now - before) * 100;
  if (Math.abs(points) < 0.05) return { direction: "same", text: "no change" };
  const direction = points > 0 ? "up" : "down";
  return { direction, text: `${direction} ${Math.abs(points).toFixed(1)} points` };
}
