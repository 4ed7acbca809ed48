// Columns that several tables share. `more` adds to a column or changes it.
import { html } from "../html.js";
import { count, money, time } from "../format.js";
import { linkTo } from "../router.js";

export const timeColumn = (key, label, more) => ({
  key, label: `${label} (UTC)`, class: "nowrap", cell: (row) => time(row[key], { zone: false }), ...more,
});
export const moneyColumn = (key, label) => ({
  key, label, csv: `${label} (USD)`, number: true, cell: (row) => money(row[key]),
});
export const countColumn = (key, label) => ({ key, label, number: true, cell: (row) => count(row[key]) });
export const codeColumn = (key, label, more) => ({
  key, label, cell: (row) => (row[key] ? html`<code>${row[key]}</code>` : "–"), ...more,
});
export const teamColumn = (more) => ({
  key: "team", label: "Team", cell: ({ team }) => (team ? html`<a href=${teamPage(team)}>${team}</a>` : "–"), ...more,
});
export const sizeColumn = {
  key: "size", label: "Size", class: "nowrap", csv: [["Size", (row) => row.size], ["Quality", (row) => row.quality]],
  cell: (row) => [row.size, row.quality].filter(Boolean).join(", ") || "–",
};

export const teamPage = (team) => linkTo(`/teams/${encodeURIComponent(team)}`, { team: "" });
