// A table with sorting, paging and CSV export. On a phone each row is a card. The ARIA roles are
// explicit because browsers drop them from rows that CSS does not display as rows.
//
// A column: { key, label, value(row), cell(row), number, sort, csv, head }. `value` is for sorting and
// export (default: row[key]), `cell` for display (default: the value). `number` aligns right.
// `sort: false` and `csv: false` switch off sorting and export. `head: true` makes it the heading of
// its row. `csv` may also be the column's name in the file, with its unit, or a list of
// [name, value(row)] for a cell with several values.
import { classes, html, useMemo, useState } from "../html.js";
import { csv, download } from "../csv.js";
import { count, counted } from "../format.js";
import { announce } from "../state.js";

const PAGE = 50;
const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

export function DataTable({ caption, columns, rows, rowKey, sort = null, file, empty = "Nothing to show.", tools }) {
  const [order, setOrder] = useState(sort);
  const [page, setPage] = useState(0);
  const sorted = useMemo(() => sortRows(rows, columns, order), [rows, columns, order]);
  const pages = Math.max(1, Math.ceil(sorted.length / PAGE));
  const shown = Math.min(page, pages - 1);
  const here = sorted.slice(shown * PAGE, (shown + 1) * PAGE);

  const turn = (column) => {
    const descending = order?.key === column.key ? !order.descending : Boolean(column.number);
    setOrder({ key: column.key, descending });
    setPage(0);
    announce(`Sorted by ${column.label}, ${descending ? "largest" : "smallest"} first.`);
  };
  const save = () => {
    download(`${file}.csv`, csv(asCsv(columns, sorted)));
    announce(`${count(sorted.length)} rows saved as ${file}.csv.`, { shown: true });
  };
  if (!rows.length) return html`<div class="empty">${typeof empty === "string" ? html`<p>${empty}</p>` : empty}</div>`;
  return html`<div class="data-table">
    ${tools && html`<div class="table-tools">${tools}</div>`}
    <div class="scroll" tabindex="0" role="region" aria-label=${caption}>
      <table role="table">
        <caption class="visually-hidden">${caption}</caption>
        <thead role="rowgroup"><tr role="row">${columns.map((column) => html`<${Head} key=${column.key} column=${column} order=${order} turn=${turn} />`)}</tr></thead>
        <tbody role="rowgroup">${here.map((row, index) => html`<tr role="row" key=${rowKey ? rowKey(row) : index}>
          ${columns.map((column) => html`<${Cell} key=${column.key} column=${column} row=${row} />`)}
        </tr>`)}</tbody>
      </table>
    </div>
    <div class="table-foot">
      <${Pager} page=${shown} pages=${pages} rows=${sorted.length} go=${setPage} caption=${caption} />
      ${file && html`<button type="button" class="quiet" onClick=${save}>Export CSV<span class="visually-hidden">: ${caption}</span></button>`}
    </div>
  </div>`;
}

function Head({ column, order, turn }) {
  const side = column.number ? "number" : undefined;
  if (column.sort === false) return html`<th role="columnheader" scope="col" class=${side}>${column.label}</th>`;
  const by = order?.key === column.key ? (order.descending ? "descending" : "ascending") : undefined;
  const sign = by ? (order.descending ? "▼" : "▲") : "";
  return html`<th role="columnheader" scope="col" class=${side} aria-sort=${by ?? "none"}>
    <button type="button" class="sort" onClick=${() => turn(column)}>${column.label}<span class="sort-sign" aria-hidden="true">${sign}</span></button>
  </th>`;
}

function Cell({ column, row }) {
  const drawn = column.cell ? column.cell(row) : valueOf(column, row) ?? "–";
  const name = classes(column.number && "number", column.class);
  if (column.head) return html`<th role="rowheader" scope="row" class=${name}>${drawn}</th>`;
  return html`<td role="cell" class=${name} data-label=${column.label}><div>${drawn}</div></td>`;
}

function Pager({ page, pages, rows, go, caption }) {
  if (pages === 1) return html`<span class="muted">${counted(rows, "row")}</span>`;
  const first = page * PAGE + 1;
  const last = Math.min(rows, first + PAGE - 1);
  return html`<nav class="pager" aria-label=${`Pages of ${caption}`}>
    <button type="button" disabled=${page === 0} onClick=${() => go(page - 1)}>Previous</button>
    <span role="status">${count(first)}–${count(last)} of ${count(rows)}</span>
    <button type="button" disabled=${page === pages - 1} onClick=${() => go(page + 1)}>Next</button>
  </nav>`;
}

const valueOf = (column, row) => (column.value ? column.value(row) : row[column.key]);

function sortRows(rows, columns, order) {
  const column = order && columns.find(({ key }) => key === order.key);
  if (!column) return rows;
  const sign = order.descending ? -1 : 1;
  const known = rows.map((row) => [valueOf(column, row), row]);
  known.sort(([one], [other]) => {
    const [lacks, otherLacks] = [one ?? "", other ?? ""].map((value) => value === "");
    if (lacks || otherLacks) return lacks - otherLacks; // unknown values come last
    return sign * (column.number ? Number(one) - Number(other) : words.compare(String(one), String(other)));
  });
  return known.map(([, row]) => row);
}

function asCsv(columns, rows) {
  const saved = columns.flatMap((column) => {
    if (column.csv === false) return [];
    if (Array.isArray(column.csv)) return column.csv;
    return [[column.csv ?? column.label, (row) => valueOf(column, row)]];
  });
  return [saved.map(([heading]) => heading), ...rows.map((row) => saved.map(([, value]) => value(row)))];
}
