// The page "Live": what the stream brought in the last 60 minutes, asked anew every few seconds while it is seen.

import { ask, canDraw } from "./ask.js";
import { amount, clock, element, percent, short, table } from "./format.js";

/* global chartConfig, drawInto, fitted */

export const title = "Live";

const EVERY_MS = 15_000;
let place;
let told;
let config;

export async function show(main, say) {
  place = main;
  main.replaceChildren(element("h1", {}, "The last 60 minutes"), element("p", { class: "soft waiting" }, "Loading…"));
  config = (await ask("api/charts").catch(() => null))?.theme;
  await canDraw;
  let waiting;
  async function again() {
    clearTimeout(waiting);
    if (document.hidden) return; // nobody looks, nothing is asked
    try {
      const [minutes, products] = await Promise.all([ask("api/live/minutes"), ask("api/live/products")]);
      told = { minutes, products };
      say(`As of ${minutes.as_of.slice(11, 19)} UTC, asked anew every ${EVERY_MS / 1000} s`);
      draw();
    } catch (error) {
      const alert = element("p", { class: "note", role: "alert" }, `${error.store ? `${error.store}: ` : ""}${error.message}`);
      if (told) say(`Stale since ${clock(told.minutes.as_of)}: ${error.message}`);
      else place.replaceChildren(element("h1", {}, "The last 60 minutes"), alert);
    }
    waiting = setTimeout(again, EVERY_MS);
  }
  document.addEventListener("visibilitychange", again);
  addEventListener("resize", () => told && draw());
  again();
}

export function redraw() {
  if (told) draw();
}

const sum = (rows, name) => rows.reduce((total, row) => total + row[name], 0);

function draw() {
  const rows = told.minutes.rows;
  const heading = element("h1", {}, "The last 60 minutes");
  if (!rows.length) {
    place.replaceChildren(heading, element("p", { class: "note" },
      "The stream has brought nothing that happened in the last 60 minutes. Is it running? See Pipelines. Events of an old day have their old times, and are not shown here, unless they are played as of now: "
      + "by the form of simulate_stream with “Times of now”, or on the local stack by “make stream DAY=”."));
    return;
  }
  const of = (kind) => rows.filter((row) => row.event_type === kind);
  const views = sum(of("view"), "events");
  const purchases = sum(of("purchase"), "events");
  const newest = Date.parse(rows.at(-1).minute) + 60_000;
  const age = Math.max(0, Math.round((Date.parse(told.minutes.as_of) - newest) / 60_000));
  const figure = (name, value) => element("div", { class: "figure" }, element("dt", {}, name), element("dd", { class: "big" }, value));
  const chart = element("div", { class: "chart" });
  const card = element("section", { class: "card wide" }, element("header", {}, element("h2", {}, "What happens minute by minute?")),
    chart, element("p", { class: "soft definition" }, "Events of each minute, UTC, by when they happened. The oldest and the newest minute are not whole. Every panel has its own scale."));
  place.replaceChildren(heading,
    element("dl", { class: "figures" }, figure("Views", short(views)), figure("Carts", short(sum(of("cart"), "events"))),
      figure("Purchases", short(purchases)), figure("Revenue", amount(short)(sum(rows, "revenue"))),
      figure("Purchases per view", views ? percent(purchases / views) : "–"),
      figure("Newest event", age ? `${age} min ago` : "this minute")),
    element("div", { class: "cards" }, card,
      element("section", { class: "card wide", id: "products" }, element("header", {}, element("h2", {}, "Which products bring the money now?")),
        told.products.rows.length ? table(told.products.rows, told.products.types, "top products")
          : element("p", { class: "empty" }, "Nothing was bought for money in the last 60 minutes.")),
      element("section", { class: "card wide" }, element("header", {}, element("h2", {}, "The numbers")),
        table(rows.toReversed(), told.minutes.types, "minutes"))));
  if (!config) return;
  // The whole hour, so that a bar is a minute however few there are.
  const end = 60_000 * (1 + Math.floor(Date.parse(told.minutes.as_of) / 60_000));
  // Not as one domain, for which Vega-Lite writes an expression that the interpreter reads as empty.
  SPEC.spec.encoding.x.scale = { domainMin: { expr: String(end - 3_600_000) }, domainMax: { expr: String(end) } };
  const spec = fitted({ ...SPEC, datasets: { minutes: rows }, config: chartConfig(config) }, chart.clientWidth);
  drawInto(chart, spec).catch((error) => { chart.textContent = `This chart could not be drawn: ${error.message}`; });
}

const SPEC = {
  usermeta: { beside_px: 66 },
  data: { name: "minutes", format: { parse: { minute: "date" } } },
  facet: { field: "event_type", type: "nominal", sort: ["view", "cart", "purchase"] },
  columns: 1,
  spec: {
    width: 600,
    height: 90,
    mark: { type: "bar", tooltip: true },
    encoding: {
      x: { field: "minute", type: "temporal", timeUnit: "utcyearmonthdatehoursminutes", axis: { title: null, format: "%H:%M", grid: false } },
      y: { field: "events", type: "quantitative", axis: { title: null, labelExpr: "datum.value % 1 ? '' : format(datum.value, '~s')", tickCount: 3, tickMinStep: 1, minExtent: 46, maxExtent: 46, domain: false, ticks: false } },
      color: { field: "event_type", type: "nominal", scale: { domain: ["view", "cart", "purchase"] }, legend: null },
    },
  },
  resolve: { scale: { y: "independent" } },
};
