// Base of the canvas charts: uPlot in the page's colors and locale, resized with its container, usable by
// touch, with a description, a data table and a readout of the point under the cursor.

import { byId, h, setText } from "../dom.js";
import { formatTick } from "../format.js";

const probe = h("span", { hidden: true });

/** Returns a color of the theme by the name of its CSS variable, as the browser computes it for a canvas. */
export function color(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.forcedColorAdjust = "none";
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}
export const translucent = (name, percent) => `color-mix(in srgb, ${color(name)} ${percent}%, transparent)`;

/** Scales pixels with the root font size, which is larger on very large screens. */
export const px = (pixels) => (pixels * parseFloat(getComputedStyle(document.documentElement).fontSize)) / 16;
const font = () => `${px(12)}px ${getComputedStyle(document.body).fontFamily}`;
/** Canvas pixels per CSS pixel. */
const pixelRatio = () => window.uPlot.pxRatio;

export const axis = ({ size = 44, space = 30, ...options } = {}) => ({
  stroke: color("chart-axis"),
  font: font(),
  grid: { stroke: color("chart-grid"), width: 1 },
  ticks: { show: false },
  gap: px(5),
  size: px(size),
  space: px(space),
  ...options,
});

/** An axis of times in this device's zone. */
export const timeAxis = () => axis({ values: (u, seconds) => seconds.map((value) => (value > u.scales.x.min && value < u.scales.x.max ? formatTick(value) : "")), space: 64, size: 28 });

/** An invisible series: the edge of a band. */
export const bandEdge = () => ({ stroke: "transparent", points: { show: false } });

/** Calls `draw` with the canvas clipped to the plotting area plus `margin`, in CSS pixels. */
function drawClipped(u, draw, margin = 0) {
  const { ctx, bbox } = u;
  const scale = pixelRatio();
  const outset = margin * scale;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left - outset, bbox.top - outset, bbox.width + 2 * outset, bbox.height + 2 * outset);
  ctx.clip();
  ctx.scale(scale, scale);
  ctx.setLineDash([]);
  ctx.lineWidth = 1.5;
  const box = { left: bbox.left / scale, top: bbox.top / scale, right: (bbox.left + bbox.width) / scale, bottom: (bbox.top + bbox.height) / scale };
  draw(ctx, (x) => u.valToPos(x, "x", true) / scale, (y) => u.valToPos(y, "y", true) / scale, box);
  ctx.restore();
}

/** Draws a horizontal line at `y`, or a vertical line at `x` with a label above it. */
export function drawLine(u, { x, y, stroke, dash = [], label = "" }) {
  drawClipped(u, (ctx, toX, toY, box) => {
    ctx.strokeStyle = ctx.fillStyle = stroke;
    const [from, to] = x === undefined ? [[box.left, toY(y)], [box.right, toY(y)]] : [[toX(x), box.top], [toX(x), box.bottom]];
    if (from[0] < box.left || from[0] > box.right || from[1] > box.bottom) return;
    ctx.setLineDash(dash);
    ctx.beginPath();
    ctx.moveTo(...from);
    ctx.lineTo(...to);
    ctx.stroke();
    ctx.font = font();
    ctx.textAlign = "center";
    ctx.fillText(label, from[0], box.top - 5);
  }, px(20));
}

/** Draws dots. `points` are [x, y] in data units. */
export function drawDots(u, points, radius = 4) {
  drawClipped(u, (ctx, toX, toY) => {
    ctx.fillStyle = color("chart-coffee");
    ctx.strokeStyle = color("surface");
    for (const [x, y] of points) {
      ctx.beginPath();
      ctx.arc(toX(x), toY(y), px(radius), 0, 2 * Math.PI);
      ctx.fill();
      ctx.stroke();
    }
  }, 6);
}

/**
 * Fills a `details` element with a data table while it is open, as an accessible alternative to a chart.
 * Returns a function that updates the table.
 */
export function dataTable(details, getTable) {
  const update = () => {
    if (!details.open) return;
    const { head, rows } = getTable();
    const table = h(
      "table",
      {},
      h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))),
    );
    const name = details.querySelector("summary").textContent;
    details.querySelector(".table-scroll")?.remove();
    details.append(h("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": name }, table));
  };
  details.addEventListener("toggle", update);
  return update;
}

/** Events after which the theme's colors may be different. */
const onColorChange = (listener) => {
  for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) matchMedia(query).addEventListener("change", listener);
  addEventListener("coffee-theme", listener);
};

let library = null;

/** Loads uPlot, which is not needed before a chart is seen. */
function loadLibrary() {
  library ??= new Promise((resolve, reject) => {
    const content = document.importNode(byId("charts-library").content, true);
    content.querySelector("script").onload = resolve;
    content.querySelector("script").onerror = () => reject(new Error("uPlot could not be loaded"));
    document.head.append(content);
  });
  return library;
}

/** A chart in the elements NAME-chart, NAME-text, NAME-table and NAME-readout. */
export class Chart {
  /** `options()` returns uPlot's options, `table()` head and rows, `readout(index)` the text for the cursor's position. */
  constructor(name, { options, table, readout = () => "" }) {
    Object.assign(this, { name, options, container: byId(`${name}-chart`), updateTable: dataTable(byId(`${name}-table`), table) });
    this.showReadout = (u) => byId(`${name}-readout`) && setText(byId(`${name}-readout`), Number.isInteger(u.cursor.idx) ? readout(u.cursor.idx) : "");
    new ResizeObserver(() => this.resize()).observe(this.container);
    onColorChange(() => this.draw());
  }

  /** Shows columns of numbers and their description. */
  show(data, description) {
    this.data = data;
    this.container.setAttribute("role", "img");
    this.container.setAttribute("aria-label", "Chart, described below");
    this.container.classList.toggle("empty", !data[0].length);
    this.describe(description);
    this.updateTable();
    if (this.plot) this.plot.setData(data);
    else this.draw();
  }

  describe(text) {
    setText(byId(`${this.name}-text`), text);
  }

  size() {
    return { width: this.container.clientWidth, height: this.container.clientHeight };
  }

  /** Draws the chart, again after the colors have changed. */
  async draw() {
    if (!this.data) return;
    if (!window.uPlot) {
      try {
        await loadLibrary();
      } catch {
        // The next data tries again; the description and the table do not need it.
        library = null;
        return;
      }
    }
    this.plot?.destroy();
    const { hooks, ...options } = this.options();
    const shared = { legend: { show: false }, cursor: { y: false, drag: { x: false, y: false } }, padding: [px(20), px(18), 0, 0] };
    this.plot = new window.uPlot({ ...shared, ...this.size(), ...options, hooks: { ...hooks, setCursor: [this.showReadout] } }, this.data, this.container);
    enableTouchCursor(this.plot);
  }

  resize() {
    if (this.plot && this.container.clientWidth) this.plot.setSize(this.size());
  }
}

/** Moves the cursor with a finger sliding sideways; vertical movements scroll the page. */
function enableTouchCursor(u) {
  const moveCursor = ({ pointerType, clientX, clientY }) => {
    const { left, top } = u.over.getBoundingClientRect();
    if (pointerType !== "mouse") u.setCursor({ left: clientX - left, top: clientY - top });
  };
  u.over.addEventListener("pointerdown", moveCursor);
  u.over.addEventListener("pointermove", moveCursor);
}
