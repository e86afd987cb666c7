// The page "Purchasing behaviour": a range of days, the headline beside the period before, and every chart.

import { ask } from "./ask.js";
import { Card } from "./card.js";
import { addDays, allDays, amount, daysBetween, element, exact, line, longDay, moment, percent, short, span, weekday } from "./format.js";

/* global MARK */

export const title = "Purchasing";

const RANGES = { 1: "Last day", 7: "7 days", 30: "30 days", all: "All days", any: "Any days" };
const MAX_DAYS = 400;
let cards = [];
let known = new Map(); // what api/days says, by day
let rejected = ""; // what of the newest day no load took
let place;
let say;

export async function show(main, tell) {
  place = main;
  say = tell;
  main.replaceChildren(element("h1", {}, "Purchasing behaviour"), element("p", { class: "soft waiting" }, "Loading…"));
  let described;
  try {
    const [days, charts] = await Promise.all([ask("api/days"), ask("api/charts")]);
    known = new Map(days.rows.map((row) => [row.event_date, row]));
    described = charts;
  } catch (error) {
    main.replaceChildren(element("h1", {}, "Purchasing behaviour"),
      element("p", { class: "note", role: "alert" }, `${error.store ? `${error.store}: ` : ""}${error.message}`));
    return;
  }
  if (!known.size) {
    main.replaceChildren(element("h1", {}, "Purchasing behaviour"),
      element("p", { class: "note" }, "There are no events yet. Land a day and load it with the DAG "
        + "load_events_daily; its summaries are built by themselves, and then this page has something to show."));
    return;
  }
  cards = described.charts.map((chart) => new Card(chart, described.theme, pick));
  addEventListener("popstate", refresh);
  let waiting, width = innerWidth;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (innerWidth !== width) redraw();
      width = innerWidth;
    }, 200);
  });
  refresh();
  const [newest] = known.keys();
  const { rows: [load] } = await ask("api/pipelines/loads", { first_day: newest, last_day: newest }).catch(() => ({ rows: [] }));
  if (!load?.rejected) return;
  rejected = `, but for ${exact(load.rejected)} of ${exact(load.read)} lines, which were rejected`;
  sayFreshness(newest);
}

export function redraw() {
  for (const card of cards) card.draw();
}

// All state is in the address.
function state() {
  const params = new URLSearchParams(location.search);
  const newest = [...known.keys()][0];
  const oldest = [...known.keys()].at(-1);
  const complete = [...known.values()].find((day) => !day.is_provisional)?.event_date ?? newest;
  let range = params.get("range") ?? "7";
  let [first_day, last_day] = [params.get("first_day"), params.get("last_day")];
  const isDay = (text) => /^\d{4}-\d\d-\d\d$/.test(text ?? "") && !Number.isNaN(Date.parse(text));
  if (isDay(first_day) && isDay(last_day) && first_day <= last_day) {
    range = "any";
  } else {
    if (!Object.hasOwn(RANGES, range) || range === "any") range = "7";
    last_day = range === "all" ? newest : complete;
    first_day = range === "all" ? oldest : addDays(last_day, 1 - Number(range));
  }
  if (daysBetween(first_day, last_day) >= MAX_DAYS) first_day = addDays(last_day, 1 - MAX_DAYS);
  const length = daysBetween(first_day, last_day) + 1;
  const filters = { subcategory: params.get("subcategory") || null, brand: params.get("brand") || null };
  const earlier = range === "all" ? null : { first_day: addDays(first_day, -length), last_day: addDays(first_day, -1) };
  const days_before = earlier ? allDays(earlier.first_day, earlier.last_day).filter((day) => known.has(day)).length : 0;
  // Half a period says nothing beside a whole one.
  const before = days_before === length ? { ...earlier, ...filters } : null;
  return { range, first_day, last_day, length, earlier, days_before, before, ...filters, newest, oldest };
}

function go(changes) {
  const now = state();
  const next = { range: now.range, first_day: now.first_day, last_day: now.last_day, subcategory: now.subcategory,
    brand: now.brand, ...changes };
  if (next.range !== "any") delete next.first_day, delete next.last_day;
  else delete next.range;
  const chosen = Object.entries(next).filter(([, value]) => value);
  history.pushState(null, "", `?${new URLSearchParams(chosen)}`);
  refresh();
}

function pick(datum, card) {
  const given = (name) => datum[name].replaceAll(MARK, ""); // see draw.js
  if (datum.brand && card.filters.includes("brand") && card.name === "brand_performance") go({ brand: given("brand") });
  else if (datum.subcategory && datum.subcategory !== "no sub-category") go({ subcategory: given("subcategory") });
  else if (datum.event_date && state().length > 1) {
    const day = new Date(datum.event_date).toISOString().slice(0, 10);
    go({ range: "any", first_day: day, last_day: day });
  }
}

function refresh() {
  const now = state();
  const { first_day, last_day, before, subcategory, brand } = now;
  const figures = element("dl", { class: "figures" });
  const grid = element("div", { class: "cards" });
  place.replaceChildren(
    element("h1", {}, `Purchasing behaviour, ${first_day === last_day ? `${weekday(first_day)} ` : ""}${span(first_day, last_day)}`),
    controls(now), ...notes(now), figures, grid);
  sayFreshness(now.newest);
  headline(figures, now);
  const params = { first_day, last_day, subcategory, brand };
  // Those that show the whole shop come after those that are filtered.
  const isApart = (card) => card.notApplied(params).length > 0;
  grid.append(...cards.toSorted((a, b) => isApart(a) - isApart(b)).map((card) => card.element));
  for (const card of cards) card.load(params, before, known);
}

function sayFreshness(newest) {
  const { is_provisional, published_at } = known.get(newest);
  say(`Data to ${longDay(newest)}, ${is_provisional ? "provisional: its daily load is still to come"
    : `complete since ${moment(published_at)}${rejected}`}`);
}

function controls(now) {
  const list = element("datalist", { id: "subcategories" });
  const brands = element("datalist", { id: "brands" });
  const choose = () => ask("api/choices", { first_day: now.first_day, last_day: now.last_day }).then(({ rows }) => {
    for (const { kind, choice } of rows) {
      (kind === "brand" ? brands : list).append(element("option", { value: choice }));
    }
  }).catch(() => {}); // a name can still be typed
  let isAsked = false;
  const field = (label, name, options) => element("label", {}, label, element("input", {
    list: options.id, value: now[name] ?? "", placeholder: "all", size: 16, autocomplete: "off",
    onfocus: () => { if (!isAsked) choose(); isAsked = true; },
    onchange: (event) => go({ [name]: event.target.value.trim() || null }) }));
  const day = (label, name) => element("label", {}, label, element("input", { type: "date", value: now[name],
    onchange: (event) => event.target.value && go({ range: "any", [name]: event.target.value,
      ...(name === "first_day" && event.target.value > now.last_day ? { last_day: event.target.value } : {}),
      ...(name === "last_day" && event.target.value < now.first_day ? { first_day: event.target.value } : {}) }) }));
  return element("form", { class: "bar", onsubmit: (event) => event.preventDefault() },
    element("label", {}, "Days", element("select", { onchange: (event) => go({ range: event.target.value }) },
      Object.entries(RANGES).map(([value, text]) =>
        element("option", { value, selected: value === now.range }, text)))),
    day("From", "first_day"), day("To", "last_day"),
    field("Sub-category", "subcategory", list), field("Brand", "brand", brands), list, brands, questions(),
    now.subcategory ? chip(`sub-category ${now.subcategory}`, "subcategory") : null,
    now.brand ? chip(`brand ${now.brand}`, "brand") : null);
}

// Where a question is answered, for whoever does not want to look through all cards.
const questions = () => element("label", {}, "Question", element("select", { onchange: (event) => {
  const card = cards.find(({ name }) => name === event.target.value);
  event.target.value = "";
  card?.element.scrollIntoView();
  card?.element.focus({ preventScroll: true });
} }, element("option", { value: "" }, "go to…"), cards.map(({ name, title }) => element("option", { value: name }, title))));

const chip = (text, name) => element("button", { type: "button", class: "chip",
  "aria-label": `Remove the filter ${text}`, onclick: () => go({ [name]: null }) }, `${text} ×`);

function notes({ first_day, last_day, earlier, days_before, before }) {
  const days = allDays(first_day, last_day);
  const missing = days.filter((day) => !known.has(day));
  const provisional = days.filter((day) => known.get(day)?.is_provisional);
  const list = (some) => some.length > 5
    ? `${some.slice(0, 4).map((day) => longDay(day, false)).join(", ")} and ${some.length - 4} more`
    : some.map((day) => longDay(day, false)).join(", ");
  const told = [];
  if (missing.length) {
    told.push(element("p", { class: "note" },
      `${missing.length} of ${days.length} ${days.length === 1 ? "day" : "days"} without events: ${list(missing)}. ${missing.length === 1 ? "It is" : "They are"} not counted as zero.`));
  }
  if (provisional.length) {
    told.push(element("p", { class: "note" },
      `Provisional, from the stream alone until the daily load: ${list(provisional)}.`));
  }
  if (earlier) {
    const period = span(earlier.first_day, earlier.last_day);
    told.push(element("p", { class: "soft" }, before ? `Compared with ${period}.`
      : days_before ? `Not compared with ${period}, of which ${days_before} of ${days.length} days have events.`
        : `No events from ${period} to compare with.`));
  }
  return told;
}

const sum = (rows, name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0);
const ratio = (part, whole) => (whole ? part / whole : null);
const average = (rows, name) => ratio(sum(rows, name), rows.length);

const money = amount(short);

// Each figure: what it is, how it is made of the days' rows, how it is written, and one day's value for the line.
const FIGURES = [
  ["Events", (rows) => sum(rows, "events"), short, (row) => row.events],
  ["Viewers, average day", (rows) => average(rows, "viewers"), short, (row) => row.viewers],
  ["Buyers", (rows) => rows[0].buyers_of_the_range, short, null],
  ["Orders", (rows) => sum(rows, "orders"), short, (row) => row.orders],
  ["Revenue", (rows) => sum(rows, "revenue"), money, (row) => row.revenue],
  ["Average order", (rows) => ratio(sum(rows, "revenue"), sum(rows, "orders")), money, (row) => ratio(row.revenue, row.orders)],
  ["Sessions that bought", (rows) => ratio(sum(rows, "converted_sessions"), sum(rows, "viewing_sessions")), percent,
    (row) => ratio(row.converted_sessions, row.viewing_sessions)],
];
const FIGURES_OF_PRODUCTS = [
  ["Views", (rows) => sum(rows, "views"), short, (row) => row.views],
  ["Put into a cart", (rows) => sum(rows, "carts"), short, (row) => row.carts],
  ["Purchases", (rows) => sum(rows, "purchases"), short, (row) => row.purchases],
  ["Revenue", (rows) => sum(rows, "revenue"), money, (row) => row.revenue],
  ["Purchases per view", (rows) => ratio(sum(rows, "purchases"), sum(rows, "views")), percent, (row) => ratio(row.purchases, row.views)],
];

async function headline(list, { first_day, last_day, before, subcategory, brand }) {
  const wanted = subcategory || brand ? FIGURES_OF_PRODUCTS : FIGURES;
  list.append(...wanted.map(() => element("div", { class: "figure waiting" })));
  try {
    const [now, then] = await Promise.all([
      ask("api/headline", { first_day, last_day, subcategory, brand }),
      before ? ask("api/headline", before).catch(() => null) : null,
    ]);
    if (!now.rows.length) {
      list.replaceChildren(element("p", { class: "note" }, "No events in these days."));
      return;
    }
    // A table may lack a day that the shop has.
    const compared = then?.rows.length === now.rows.length ? then.rows : null;
    list.replaceChildren(...wanted.map((figure) => figureOf(figure, now.rows, compared)));
  } catch (error) {
    list.replaceChildren(element("p", { class: "note", role: "alert" },
      `${error.store ? `${error.store}: ` : ""}${error.message}`));
  }
}

function figureOf([name, make, write, ofDay], rows, before) {
  const value = make(rows);
  const earlier = before && make(before);
  const change = earlier ? value / earlier - 1 : null;
  const sign = change > 0 ? "▲ +" : change < 0 ? "▼ −" : "";
  const kind = change == null || Math.abs(change) < 0.0005 ? "" : change > 0 ? " better" : " worse";
  return element("div", { class: "figure" },
    element("dt", {}, rows.length > 1 ? name : name.replace(", average day", "")),
    element("dd", { class: "big", title: value == null ? null : write === money ? amount(exact)(value) : exact(value) }, value == null ? "–" : write(value)),
    change == null ? null : element("dd", { class: `change${kind}` },
      `${sign}${percent(Math.abs(change))} on ${(write === money ? short : write)(earlier)}`),
    ofDay && rows.length > 2 ? element("dd", {}, line(rows.map(ofDay))) : null);
}
