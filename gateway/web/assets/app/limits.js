// The six limits, with their names in teams.toml and their labels.
import { count, money } from "./format.js";

const isMoney = (name) => name.endsWith("_usd");

// `short` is for narrow columns, `unit` for the hint of a control.
export const LIMITS = [
  { name: "images_per_day", label: "Images a day", short: "Images today", unit: "images" },
  { name: "images_per_month", label: "Images a month", short: "Images this month", unit: "images" },
  { name: "cost_per_day_usd", label: "Spend a day", short: "Spend today", unit: "US dollars" },
  { name: "cost_per_month_usd", label: "Spend a month", short: "Spend this month", unit: "US dollars" },
  { name: "requests_per_minute", label: "Purchases a minute", short: "Purchases a minute", unit: "purchases" },
  { name: "concurrent_requests", label: "Purchases at once", short: "Purchases at once", unit: "purchases" },
].map((limit) => ({ ...limit, step: isMoney(limit.name) ? "0.01" : "1", format: isMoney(limit.name) ? money : count }));

const BY_NAME = new Map(LIMITS.map((limit) => [limit.name, limit]));

export const limitOf = (name) => BY_NAME.get(name);

// Limits for the admin API from the texts of a form: an empty text is null.
export const limitsFrom = (texts) =>
  Object.fromEntries(LIMITS.map(({ name }) => {
    const text = texts[name].trim();
    return [name, text === "" ? null : Number(text)];
  }));

// Texts for a form from the limits of the admin API.
export const textsFrom = (limits = {}) =>
  Object.fromEntries(LIMITS.map(({ name }) => [name, String(limits[name] ?? "")]));
