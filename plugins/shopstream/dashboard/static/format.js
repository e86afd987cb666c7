// Figures, days and elements, as all pages write them.

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_MS = 86_400_000;
const exactly = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 2 });
const money = new Intl.NumberFormat("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

const CURRENCY = document.documentElement.dataset.currency;
const NUMERIC_RATES = /rate$|share|change$|per_view$/;

// An amount of money, written as `write` writes numbers, with the shop's currency where that is known.
export const amount = (write) => (value) => (CURRENCY && value != null ? `${CURRENCY}\u00a0${write(value)}` : write(value));

// To the cent.
export const price = (value) => (value == null ? "–" : money.format(value));

export const exact = (value) => exactly.format(value);

// With so many decimals, a half up: of a sum of floats without what adding them has put at its end.
const written = (value, digits) => Number(value.toPrecision(15)).toLocaleString("en-GB",
  { minimumFractionDigits: digits, maximumFractionDigits: digits });

// Three digits: 9,820; 68.4 k; 1.42 M.
export function short(value) {
  const size = Math.abs(value);
  for (const [from, unit] of [[1e9, "bn"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= from) {
      const scaled = value / (unit === "k" ? 1e3 : from);
      return `${scaled.toLocaleString("en-GB", { maximumSignificantDigits: 3 })}\u00a0${unit}`;
    }
  }
  return size < 100 && !Number.isInteger(value) ? written(value, 2) : written(value, 0);
}

export const percent = (share, digits = 1) => `${written(100 * share, digits)} %`;

export const addDays = (day, days) => new Date(Date.parse(day) + days * DAY_MS).toISOString().slice(0, 10);

export const daysBetween = (first, last) => Math.round((Date.parse(last) - Date.parse(first)) / DAY_MS);

export const allDays = (first, last) =>
  Array.from({ length: daysBetween(first, last) + 1 }, (_, n) => addDays(first, n));

export function longDay(day, withYear = true) {
  const [year, month, number] = day.split("-").map(Number);
  return `${number} ${MONTHS[month - 1]}${withYear ? ` ${year}` : ""}`;
}

export const weekday = (day) => new Date(day).toLocaleDateString("en-GB", { weekday: "long", timeZone: "UTC" });

export function span(first, last) {
  if (first === last) return longDay(first);
  return `${longDay(first, first.slice(0, 4) !== last.slice(0, 4))} to ${longDay(last)}`;
}

export const clock = (moment) => `${moment.slice(11, 16)} UTC`;

export const moment = (text) => `${longDay(text.slice(0, 10))} ${clock(text)}`;

// An element: texts among the children become text, never HTML.
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child != null && child !== false));
  return made;
}

const LABELS = {
  event_date: "day", event_hour: "hour", cart_hour: "hour", event_type: "type", subcategory: "sub-category",
  weekday_name: "weekday", category_code: "category", product_id: "product", price_sum: "sum of prices",
  cohort_week: "first bought in the week of", active_customers: "bought again", retention_rate: "share",
  share_of_viewed: "of those that viewed", orders_each: "orders", converted_sessions: "of them bought",
  abandonment_rate: "share abandoned", earlier: "earlier period",
};
const LONG_TEXT = 60;
const HIDDEN = new Set(["weekday", "step_number"]);

function cell(name, value, type) {
  if (value == null) return "–";
  if (name.endsWith("_hour")) return `${String(value).padStart(2, "0")}:00`;
  if (NUMERIC_RATES.test(name)) return percent(value, 2);
  if (name === "minute") return clock(value); // of the last hour
  if (type === "TIMESTAMP") return moment(value);
  if (name.endsWith("_id")) return String(value);
  if (type === "NUMERIC") return money.format(value);
  return typeof value === "number" ? exactly.format(value) : String(value);
}

// The table of rows, in order of whichever column's heading is clicked; `types` are BigQuery's, by column.
export function table(rows, types, caption, most = 200) {
  const names = Object.keys(types).filter((name) => !HIDDEN.has(name));
  const isMoney = (name) => CURRENCY && types[name] === "NUMERIC" && !NUMERIC_RATES.test(name);
  const heading = (name) => `${LABELS[name] ?? name.replaceAll("_", " ")}${isMoney(name) ? ` (${CURRENCY})` : ""}`;
  const isText = (name) => ["STRING", "DATE", "TIMESTAMP", "BOOLEAN", "BOOL"].includes(types[name]);
  const order = { by: null, sign: 1 };
  const headings = names.map((name) => element("th", { class: isText(name) ? "text" : null, scope: "col" },
    element("button", { type: "button", class: "quiet", onclick: () => sort(name) }, heading(name))));
  const body = element("tbody");
  const line = (row) => element("tr", {}, names.map((name) => {
    const text = cell(name, row[name], types[name]);
    return element("td", { class: !isText(name) ? null : text.length > LONG_TEXT ? "text long" : "text" }, text);
  }));
  // What there is none of is last, however the rest is ordered.
  const compare = (a, b) => (a == null) - (b == null) || (a < b ? -order.sign : a > b ? order.sign : 0);
  function sort(name) {
    const isAnew = order.by !== name;
    Object.assign(order, { by: name, sign: isAnew ? (isText(name) ? 1 : -1) : -order.sign });
    headings.forEach((one, n) => {
      if (names[n] === name) one.setAttribute("aria-sort", order.sign > 0 ? "ascending" : "descending");
      else one.removeAttribute("aria-sort");
    });
    show(rows.toSorted((a, b) => compare(a[name], b[name])));
  }
  const show = (some) => body.replaceChildren(...some.slice(0, most).map(line));
  show(rows);
  return element("div", {},
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Table: ${caption}` },
      element("table", {},
        element("thead", {}, element("tr", {}, headings)), body)),
    rows.length > most
      ? element("p", { class: "soft" }, `The first ${most} of ${exact(rows.length)} rows; the CSV has all.`) : null);
}

// A line of values in order, without axes: its numbers stand beside it or in a table.
export function line(values) {
  const [width, height] = [100, 24];
  const most = Math.max(...values.map((value) => value ?? 0)) || 1;
  const points = values.map((value, n) =>
    `${(n / (values.length - 1)) * width},${height - 2 - ((value ?? 0) / most) * (height - 4)}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  drawn.setAttribute("points", points.join(" "));
  svg.append(drawn);
  return svg;
}
