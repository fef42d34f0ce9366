// What the plots on a canvas share: uPlot in the page's colours and locale, as wide as its place, with a
// finger as good as a mouse; beside it the same in words, as a table, and what the cursor is on.

import { at, h, say } from "../elements.js";
import { tick } from "../format.js";

/** A colour of the theme, by the name that it has there. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const faint = (name, percent) => `color-mix(in srgb, ${colour(name)} ${percent}%, transparent)`;

/** Pixels as they are on a screen of usual size: a wall display has a larger type. */
export const px = (pixels) => (pixels * parseFloat(getComputedStyle(document.documentElement).fontSize)) / 16;
const font = () => `${px(12)}px ${getComputedStyle(document.body).fontFamily}`;
/** Pixels of the canvas for one of the page. */
const ratio = () => window.uPlot.pxRatio;

/** An axis in the theme's colours. */
export const axis = ({ size = 44, space = 30, ...more } = {}) => ({
  stroke: colour("plot-axis"),
  font: font(),
  grid: { stroke: colour("plot-grid"), width: 1 },
  ticks: { show: false },
  gap: px(5),
  size: px(size),
  space: px(space),
  ...more,
});

/** An axis of times in this device's zone. */
export const timeAxis = () => axis({ values: (u, seconds) => seconds.map((at) => (at > u.scales.x.min ? tick(at) : "")), space: 64, size: 28 });

/** A series that shows nothing itself: an edge of a band. */
export const edge = () => ({ stroke: "transparent", points: { show: false } });

/** Does `draw` on the plot's canvas, within its edges and `beyond` by so many pixels, in pixels of the page. */
function painting(u, draw, beyond = 0) {
  const { ctx, bbox } = u;
  const [scale, more] = [ratio(), beyond * ratio()];
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left - more, bbox.top - more, bbox.width + 2 * more, bbox.height + 2 * more);
  ctx.clip();
  ctx.scale(scale, scale);
  ctx.setLineDash([]);
  ctx.lineWidth = 1.5;
  const box = { left: bbox.left / scale, top: bbox.top / scale, right: (bbox.left + bbox.width) / scale, bottom: (bbox.top + bbox.height) / scale };
  draw(ctx, (x) => u.valToPos(x, "x", true) / scale, (y) => u.valToPos(y, "y", true) / scale, box);
  ctx.restore();
}

/** Draws a line from left to right at `y`, or from top to bottom at `x`, then with a word above it. */
export function rule(u, { x, y, stroke, dash = [], label = "" }) {
  painting(u, (ctx, toX, toY, box) => {
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

/** Draws dots: `points` are [x, y] in the plot's units. */
export function dots(u, points, radius = 4) {
  painting(u, (ctx, toX, toY) => {
    ctx.fillStyle = colour("plot-coffee");
    ctx.strokeStyle = colour("surface");
    for (const [x, y] of points) {
      ctx.beginPath();
      ctx.arc(toX(x), toY(y), px(radius), 0, 2 * Math.PI);
      ctx.fill();
      ctx.stroke();
    }
  }, 6);
}

/** A table for those who do not see a plot: made when it is opened, and anew when its data change. */
export function twin(details, make) {
  const refill = () => {
    if (!details.open) return;
    const { head, rows } = make();
    const table = h(
      "table",
      {},
      h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))),
    );
    const name = details.querySelector("summary").textContent;
    details.querySelector(".table")?.remove();
    details.append(h("div", { class: "table", tabindex: "0", role: "region", "aria-label": name }, table));
  };
  details.addEventListener("toggle", refill);
  return refill;
}

const dark = matchMedia("(prefers-color-scheme: dark)");

/** The plot called `name`: the elements NAME-plot, NAME-text, NAME-table and NAME-readout. */
export class Plot {
  /** `options()` are uPlot's, `table()` a head and rows, `readOut(index)` what the cursor is on. */
  constructor(name, { options, table, readOut = () => "" }) {
    Object.assign(this, { name, options, place: at(`${name}-plot`), refill: twin(at(`${name}-table`), table) });
    this.follow = (u) => at(`${name}-readout`) && say(at(`${name}-readout`), Number.isInteger(u.cursor.idx) ? readOut(u.cursor.idx) : "");
    new ResizeObserver(() => this.fit()).observe(this.place);
    dark.addEventListener("change", () => this.draw());
  }

  /** Shows columns of numbers, and the same in words. */
  show(data, text) {
    const isNew = !this.data;
    this.data = data;
    this.place.setAttribute("role", "img");
    this.place.setAttribute("aria-label", "Plot, told in words below");
    this.place.classList.toggle("nothing", !data[0].length);
    this.tell(text);
    this.refill();
    if (isNew) this.draw();
    else this.plot.setData(data);
  }

  tell(text) {
    say(at(`${this.name}-text`), text);
  }

  size() {
    return { width: this.place.clientWidth, height: this.place.clientHeight };
  }

  draw() {
    if (!this.data) return;
    this.plot?.destroy();
    const { hooks, ...options } = this.options();
    const shared = { legend: { show: false }, cursor: { y: false, drag: { x: false, y: false } }, padding: [px(20), px(18), 0, 0] };
    this.plot = new window.uPlot({ ...shared, ...this.size(), ...options, hooks: { ...hooks, setCursor: [this.follow] } }, this.data, this.place);
    followFinger(this.plot);
  }

  fit() {
    if (this.plot && this.place.clientWidth) this.plot.setSize(this.size());
  }
}

/** A finger that slides over the plot moves its cursor; up and down it scrolls the page. */
function followFinger(u) {
  const follow = ({ pointerType, clientX, clientY }) => {
    const { left, top } = u.over.getBoundingClientRect();
    if (pointerType !== "mouse") u.setCursor({ left: clientX - left, top: clientY - top });
  };
  u.over.addEventListener("pointerdown", follow);
  u.over.addEventListener("pointermove", follow);
}
