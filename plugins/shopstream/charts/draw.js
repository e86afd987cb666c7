"use strict";
// How the report and the dashboard draw a chart: the options of Vega-Embed, a specification made as wide as its place,
// and its colours.

const OPTIONS = {
  mode: "vega-lite",
  renderer: "svg",
  actions: false,
  defaultStyle: false,
  tooltip: { disableDefaultStyle: true },
  ast: true, // expressions are interpreted, so that the page needs no eval
  expressionFunctions: { format },
};
// Vega's function, which rounds by a float's binary digits: 57 of 200 would be 28 %, while a sentence says 29 %. So
// little more makes a half of what is written as one.
function format(value, form) {
  if (value === null) return "null";
  return this.context.dataflow.locale().format(form)(Number.isInteger(value) ? value : value * (1 + 4 * Number.EPSILON));
}
// Stripes of paper over the bars of what is provisional; Vega knows no pattern, but a gradient with hard edges is one.
const STRIPES = 7;
function hatch(paper) {
  const stops = Array.from({ length: STRIPES }, (_, n) => ["transparent", paper].flatMap((color, half) =>
    [half, half + 1].map((edge) => ({ offset: (n + edge / 2) / STRIPES, color })))).flat();
  return { gradient: "linear", x1: 0, y1: 0, x2: 1, y2: 1, stops };
}

const NARROW_PX = 700;
const GAP_PX = 20;
// Vega keeps what it has grouped by name in plain objects, in which these names are taken: a sub-category
// called constructor would blank its chart. A mark that nobody sees makes it another name.
const TAKEN = new Set(Object.getOwnPropertyNames(Object.prototype));
const MARK = "\u200b";

// Draws one chart after the other: all at once would each wait for all, and the first be seen with the last.
let turn = Promise.resolve();
function drawInto(place, spec) {
  if (isOnPaper()) return embedInto(place, spec);
  const mine = turn.then(() => embedInto(place, spec));
  const pause = () => new Promise((next) => setTimeout(next)); // in which the browser shows what is drawn
  turn = mine.then(pause, pause);
  return mine;
}

// Leaves to screen readers only what has words: a layer without marks, such as an earlier period that is not there, has
// none. A chart that draws none of its rows says so.
async function embedInto(place, spec) {
  const embedded = await vegaEmbed(place, spec, OPTIONS);
  if (!place.querySelector(".role-mark > *")) {
    const told = document.createElement("p");
    told.className = "empty";
    told.textContent = spec.usermeta?.undrawn ?? "There is nothing to draw; the table has what there is.";
    place.replaceChildren(told);
  }
  for (const part of place.querySelectorAll("[role=graphics-symbol]:not([aria-label])")) {
    part.setAttribute("aria-hidden", "true");
  }
  return embedded;
}

// Paper is white: the style sheets know no dark on it, and charts are drawn anew for it. All at once, since a browser
// that prints waits for no timer.
const isOnPaper = () => document.documentElement.classList.contains("paper");
function redrawForPaper(redraw) {
  for (const [event, isPaper] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      document.documentElement.classList.toggle("paper", isPaper);
      redraw();
    });
  }
}

function fitted(spec, width) {
  const copy = structuredClone(spec);
  for (const rows of Object.values(copy.datasets ?? {})) {
    for (const row of rows) {
      for (const [column, value] of Object.entries(row)) if (TAKEN.has(value)) row[column] = value + MARK;
    }
  }
  const plot = copy.spec ?? copy;
  if (copy.columns && width < NARROW_PX) copy.columns = 1;
  const columns = copy.columns ?? 1;
  plot.width = Math.floor((width - copy.usermeta.beside_px - GAP_PX * (columns - 1)) / columns);
  return copy;
}

// The charts' configuration with the colours of the page's theme, which its style sheet holds.
function chartConfig(config) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const made = structuredClone(config);
  made.background = "transparent";
  made.range = { category: [colour("view"), colour("cart"), colour("purchase")], heatmap: colour("heat").split(" "),
    ramp: colour("heat").split(" ") };
  const params = { ink: "ink", paper: "card", on_mark: "on-mark", on_cart: "on-cart", view: "view", cart: "cart",
    purchase: "purchase", earlier: "earlier" };
  made.params = Object.entries(params).map(([name, token]) => ({ name, value: colour(token) }));
  made.params.push({ name: "hatch", value: hatch(colour("card")) });
  Object.assign(made.axis, { labelColor: colour("soft"), titleColor: colour("soft"), domainColor: colour("earlier"),
    tickColor: colour("earlier"), gridColor: colour("grid") });
  made.header.labelColor = colour("ink");
  Object.assign(made.legend, { labelColor: colour("soft"), titleColor: colour("soft") });
  made.text.color = colour("ink");
  return made;
}
