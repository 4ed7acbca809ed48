// A chart over time, with a legend, the values under the pointer, and the same data as a table.
//
// series: [{ label, values }], one value (or null) for each of `times`, which are seconds since the
// epoch. kind: "bars" stacks them, the first at the bottom; "lines" overlays them. `axis` turns all
// values of the axis into text. `unit` is for the names of columns in the CSV file.
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { colours } from "../state.js";
import uPlot from "../../vendor/uPlot.mjs";
import { DataTable } from "./table.js";

const HEIGHT = 220;
const HOUR = 3_600;
const DAY = 86_400;
const STEPS = { [HOUR]: [1, 2, 3, 6, 12, 24], [DAY]: [1, 2, 7, 14, 28] };

export function Chart({ caption, times, series, kind = "bars", step = DAY, format, axis = (values) => values.map(format), unit, timeLabel, file, first = 0 }) {
  const box = useRef(null);
  const [at, setAt] = useState(null);
  const turn = colours.use();
  useEffect(() => {
    const draw = () => plot(box.current, { times, series, kind, step, axis, timeLabel, onPoint: setAt, first });
    let chart = draw();
    const watch = new ResizeObserver(() => {
      const width = box.current?.clientWidth;
      if (width && Math.abs(width - chart.width) > 1) chart.setSize({ width, height: HEIGHT });
    });
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      chart.destroy();
    };
  }, [times, series, kind, turn]);
  return html`<figure class="chart">
    <div class="chart-box" ref=${box} role="img" aria-label=${`${caption}. The table below has the same values.`}></div>
    <${Legend} series=${series} kind=${kind} at=${at} times=${times} timeLabel=${timeLabel} format=${format} first=${first} />
    <${AsTable} caption=${caption} times=${times} series=${series} format=${format} unit=${unit} timeLabel=${timeLabel} file=${file} />
  </figure>`;
}

// The series with their colours, and the values at the time under the pointer, or their sums.
function Legend({ series, kind, at, times, timeLabel, format, first }) {
  const here = at !== null && at < times.length;
  const value = (values) => (here ? values[at] : kind === "bars" ? sum(values) : undefined);
  return html`<figcaption class="legend" aria-hidden="true">
    <span class="legend-time">${here ? timeLabel(times[at]) : kind === "bars" ? "Total" : ""}</span>
    ${series.map(({ label, rest, values }, index) => html`<span key=${label} class="legend-item">
      ${series.length > 1 && html`<span class=${`swatch swatch-${rest ? "rest" : ((index + first) % 10) + 1}`}></span>${label}`}
      ${value(values) !== undefined && html`<b>${format(value(values))}</b>`}
    </span>`)}
  </figcaption>`;
}

function AsTable({ caption, times, series, format, unit, timeLabel, file }) {
  const [open, setOpen] = useState(false);
  const columns = useMemo(() => [
    { key: "time", label: "Time (UTC)", head: true, value: (row) => new Date(row.time * 1_000).toISOString(), cell: (row) => timeLabel(row.time) },
    ...series.map(({ label, values }, index) => ({
      key: String(index), label, csv: `${label} (${unit})`, number: true, value: (row) => values[row.index], cell: (row) => format(values[row.index]),
    })),
  ], [series]);
  const rows = useMemo(() => times.map((time, index) => ({ time, index })), [times]);
  return html`<details class="as-table" onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>Show as a table</summary>
    ${open && html`<${DataTable} caption=${caption} columns=${columns} rows=${rows} rowKey=${(row) => row.time} file=${file} />`}
  </details>`;
}

function plot(box, { times, series, kind, step, axis, timeLabel, onPoint, first }) {
  const style = getComputedStyle(box);
  const colour = (name) => resolved(box, name);
  const paint = (index, rest) => colour(rest ? "series-rest" : `series-${((index + first) % 10) + 1}`);
  const lines = series.map((one, index) => ({ ...one, paint: paint(index, one.rest) }));
  const drawn = kind === "bars" ? stacked(lines) : lines;
  const font = `12px ${style.fontFamily}`;
  const side = { stroke: colour("muted"), font, ticks: { show: false }, border: { show: false } };
  const options = {
    width: box.clientWidth || 600,
    height: HEIGHT,
    legend: { show: false },
    padding: [8, 8, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { show: kind === "lines" } },
    scales: {
      x: { time: true, range: (_, low, high) => [low - step * 0.6, high + step * 0.6] },
      y: { range: (_, low, high) => [0, high > 0 ? high * 1.05 : 1] },
    },
    axes: [
      { ...side, size: 30, space: 64, grid: { show: false }, incrs: (STEPS[step] ?? [1]).map((many) => many * step),
        values: (_, splits) => splits.map((time) => timeLabel(time, { short: true })) },
      { ...side, size: 56, space: 36, grid: { stroke: colour("line"), width: 1 }, values: (_, splits) => axis(splits) },
    ],
    series: [{}, ...drawn.map(({ label, paint: stroke }) => shape(label, stroke, kind))],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1_000), "Etc/UTC"),
    hooks: { setCursor: [(chart) => onPoint(chart.cursor.idx ?? null)] },
  };
  return new uPlot(options, [times, ...drawn.map(({ values }) => values)], box);
}

// A canvas takes no light-dark(): the browser resolves a colour of the theme for an element.
function resolved(box, name) {
  box.style.color = `var(--${name})`;
  const { color } = getComputedStyle(box);
  box.style.color = "";
  return color;
}

function shape(label, stroke, kind) {
  if (kind === "lines") {
    const filter = (chart, index, shown) => (shown ? null : alone(chart.data[index]));
    return { label, stroke, width: 2, spanGaps: true, points: { size: 5, fill: stroke, filter } };
  }
  return { label, stroke, fill: stroke, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.72, 40] }) };
}

// The place of the only known value, to be marked: a line through one value has no length.
function alone(values) {
  const places = values.flatMap((value, place) => (value === null ? [] : [place]));
  return places.length === 1 ? places : null;
}

const sum = (values) => values.reduce((total, value) => total + Number(value ?? 0), 0);

// Running sums of the series, the highest first: each bar is drawn over the one before.
function stacked(series) {
  const sums = [];
  const layers = series.map((one) => {
    one.values.forEach((value, index) => {
      sums[index] = (sums[index] ?? 0) + Number(value ?? 0);
    });
    return { ...one, values: [...sums] };
  });
  return layers.reverse();
}
