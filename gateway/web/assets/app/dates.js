// Days are UTC, written "2026-11-22". A range includes both ends.
import { useQuery } from "./router.js";

const DAY = 86_400_000;
const WRITTEN = /^\d{4}-\d{2}-\d{2}$/;

export const dayOf = (milliseconds) => new Date(milliseconds).toISOString().slice(0, 10);
export const today = () => dayOf(Date.now());
export const daysBefore = (days, from = today()) => dayOf(Date.parse(from) - days * DAY);

export const isDay = (text) => WRITTEN.test(text) && !Number.isNaN(Date.parse(text)) && dayOf(Date.parse(text)) === text;

const last = (days) => ({ from: daysBefore(days - 1), to: today() });

function lastMonth() {
  const to = daysBefore(1, `${today().slice(0, 7)}-01`);
  return { from: `${to.slice(0, 7)}-01`, to };
}

export const PRESETS = [
  { id: "today", label: "Today", range: () => last(1) },
  { id: "7", label: "Last 7 days", range: () => last(7) },
  { id: "30", label: "Last 30 days", range: () => last(30) },
  { id: "90", label: "Last 90 days", range: () => last(90) },
  { id: "month", label: "This month", range: () => ({ from: `${today().slice(0, 7)}-01`, to: today() }) },
  { id: "last-month", label: "Last month", range: lastMonth },
];

export const USUAL = PRESETS.find((preset) => preset.id === "30");

// The preset with this range, or null. On the first of a month "Today" is also "This month": the
// first preset wins.
export const presetOf = ({ from, to }) =>
  PRESETS.find(({ range }) => range().from === from && range().to === to) ?? null;

// The range in the URL: { from, to }; the last 30 days if it has no valid one.
export function useRange() {
  const from = useQuery("from");
  const to = useQuery("to");
  if (!isDay(from) && !isDay(to)) return USUAL.range();
  const ends = isDay(to) ? to : today();
  const begins = isDay(from) ? from : daysBefore(29, ends);
  return begins <= ends ? { from: begins, to: ends } : { from: ends, to: begins };
}
