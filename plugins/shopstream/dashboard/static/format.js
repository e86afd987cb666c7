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

// Three digits: 9,820; 68.4 k; 1.42 M.
export function short(value) {
  const size = Math.abs(value);
  for (const [from, unit] of [[1e9, "bn"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= from) {
      const scaled = value / (unit === "k" ? 1e3 : from);
      return `${Number(scaled.toPrecision(3)).toLocaleString("en-GB")} ${unit}`;
    }
  }
  return size < 100 && !Number.isInteger(value) ? value.toFixed(2) : Math.round(value).toLocaleString("en-GB");
}

export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

export const addDays = (day, days) => new Date(Date.parse(day) + days * DAY_MS).toISOString().slice(0, 10);

export const daysBetween = (first, last) => Math.round((Date.parse(last) - Date.parse(first)) / DAY_MS);

export const allDays = (first, last) =>
  Array.from({ length: daysBetween(first, last) + 1 }, (_, n) => addDays(first, n));

export function longDay(day, withYear = true) {
  const [year, month, number] = day.split("-").map(Number);
  return `${number} ${MONTHS[month - 1]}${withYear ? ` ${year}` : ""}`;
}

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
const HIDDEN = new Set(["weekday", "step_number"]);

function cell(name, value, type) {
  if (value == null) return "–";
  if (name.endsWith("_hour")) return `${String(value).padStart(2, "0")}:00`;
  if (NUMERIC_RATES.test(name)) return percent(value, 2);
  if (type === "TIMESTAMP") return moment(value);
  if (name.endsWith("_id")) return String(value);
  if (type === "NUMERIC") return money.format(value);
  return typeof value === "number" ? exactly.format(value) : String(value);
}

// The table of rows; `types` are BigQuery's, by column.
export function table(rows, types, caption, most = 200) {
  const names = Object.keys(types).filter((name) => !HIDDEN.has(name));
  const isMoney = (name) => CURRENCY && types[name] === "NUMERIC" && !NUMERIC_RATES.test(name);
  const heading = (name) => `${LABELS[name] ?? name.replaceAll("_", " ")}${isMoney(name) ? ` (${CURRENCY})` : ""}`;
  const isText = (name) => ["STRING", "DATE", "TIMESTAMP", "BOOLEAN", "BOOL"].includes(types[name]);
  const cells = (tag, row, write) =>
    names.map((name) => element(tag, { class: isText(name) ? "text" : null, scope: tag === "th" ? "col" : null },
      write(name, row)));
  const shown = rows.slice(0, most);
  return element("div", {},
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Table: ${caption}` },
      element("table", {},
        element("thead", {}, element("tr", {}, cells("th", null, heading))),
        element("tbody", {}, shown.map((row) =>
          element("tr", {}, cells("td", row, (name) => cell(name, row[name], types[name]))))))),
    rows.length > shown.length
      ? element("p", { class: "soft" }, `The first ${most} of ${exact(rows.length)} rows; the CSV has all.`) : null);
}
