// One card: a question, its answer, the chart, and behind a quiet menu its table, CSV, picture and query.

import { address, ask, canDraw } from "./ask.js";
import { clock, element, table } from "./format.js";

/* global chartConfig, drawInto, fitted */

export class Card {
  // `described` is one of api/charts: name, spec, filters. `pick` is called with a mark's datum when it is clicked.
  constructor(described, config, pick) {
    Object.assign(this, { name: described.name, filters: described.filters, spec: described.spec, config, pick });
    this.title = described.spec.title.text;
    this.place = element("div", { class: "chart waiting" });
    this.answer = element("p", { class: "answer" });
    this.more = element("div");
    this.asOf = element("p", { class: "soft" });
    this.menu = element("div", { class: "menu" },
      this.#toggle("Table", "The numbers", () => table(this.told.rows, this.told.types, this.title)),
      element("button", { type: "button", class: "quiet", title: "A file of all rows, for Excel and others", onclick: () => this.#download() }, "CSV"),
      element("button", { type: "button", class: "quiet", title: "A picture of the chart", onclick: () => this.#picture() }, "PNG"),
      this.#toggle("SQL", "The query that made the numbers", () => element("pre", { tabindex: 0 }, this.told.sql)));
    this.element = element("section", { class: described.spec.usermeta.wide ? "card wide" : "card", id: this.name,
      tabindex: -1, "data-clickable": described.spec.usermeta.click ? true : null },
      element("header", {}, element("h2", {}, this.title), this.menu),
      this.answer, this.place,
      element("p", { class: "soft definition" }, described.spec.title.subtitle), this.asOf, this.more);
  }

  // Ask for these days and draw. `before` are the days of the earlier period, if there is one.
  async load(params, before, days) {
    const mine = (this.loading = {});
    this.params = this.#taken(params);
    this.place.className = "chart waiting";
    try {
      const earlier = before && this.#isDaily() ? ask(`api/charts/${this.name}`, this.#taken(before)).catch(() => null) : null;
      const told = await ask(`api/charts/${this.name}`, this.params);
      const told_before = await earlier;
      if (this.loading !== mine) return; // another range was chosen meanwhile
      this.told = told;
      this.rows = this.#rows(told.rows, told_before?.rows, params, before, days);
      const without = this.notApplied(params);
      this.answer.replaceChildren(without.length ? element("b", {}, `Not filtered by ${without.join(" and ")}. `) : "", told.answer ?? "");
      this.asOf.textContent = [
        `As of ${clock(told.as_of)}.`,
        told_before ? "In grey the earlier period." : null,
        told.is_cut ? `Only the first ${told.rows.length} rows.` : null,
        without.length ? "Its table has no such filter." : null,
        told.rows.length && (params.first_day !== params.last_day || !this.#isDaily()) ? this.spec.usermeta.click : null,
      ].filter(Boolean).join(" ");
      this.#fill();
      if (told.rows.length) await this.draw();
      else this.#show(null, element("p", { class: "empty" }, this.spec.usermeta.empty ?? "Nothing to show in these days."));
    } catch (error) {
      if (this.loading !== mine) return;
      this.told = null;
      this.rows = [];
      this.#fill();
      this.answer.textContent = "";
      this.#show(null, element("div", { class: "failed", role: "alert" },
        element("p", {}, element("b", {}, error.store ? `${error.store}: ` : ""), error.message),
        element("button", { type: "button", onclick: () => this.load(params, before, days) }, "Try again")));
    }
  }

  // Draw the rows apart and show them when they are drawn, unless something else is to be shown by then.
  async draw() {
    if (!this.rows?.length) return;
    const mine = this.loading;
    await canDraw;
    const whole = { ...this.spec, config: chartConfig(this.config), datasets: { [this.name]: this.rows } };
    const { title, $schema, ...spec } = fitted(whole, this.place.clientWidth);
    const chart = element("div");
    try {
      const { view } = await drawInto(chart, spec);
      if (this.loading !== mine) return view.finalize();
      view.addEventListener("click", (_, item) => item?.datum && this.pick(item.datum, this));
      this.#show(view, chart);
    } catch (error) {
      if (this.loading === mine) this.#show(null, `This chart could not be drawn: ${error.message}`);
    }
  }

  #show(view, shown) {
    this.view?.finalize();
    this.view = view;
    this.place.className = "chart";
    this.place.replaceChildren(shown);
  }

  #isDaily() {
    return ["daily_event_count", "revenue_daily"].includes(this.name);
  }

  #taken(params) {
    const { first_day, last_day } = params;
    return { first_day, last_day, ...Object.fromEntries(this.filters.map((name) => [name, params[name]])) };
  }

  // What the rest of the page is filtered by and this card is not.
  notApplied(params) {
    return [["subcategory", "sub-category"], ["brand", "brand"]]
      .filter(([name]) => params[name] && !this.filters.includes(name)).map(([, text]) => text);
  }

  // Put beside each day what was so many days before, and say which days may still change.
  #rows(rows, rows_before, params, before, days) {
    if (!this.#isDaily()) return rows;
    const what = this.name === "revenue_daily" ? "revenue" : "events";
    const shift = before ? (Date.parse(params.first_day) - Date.parse(before.first_day)) : 0;
    const earlier = new Map((rows_before ?? []).map((row) =>
      [`${Date.parse(row.event_date) + shift} ${row.event_type}`, row[what]]));
    return rows.map((row) => ({
      ...row,
      earlier: earlier.get(`${Date.parse(row.event_date)} ${row.event_type}`) ?? null,
      provisional: days.get(row.event_date)?.is_provisional ?? false,
    }));
  }

  #toggle(label, title, make) {
    const button = element("button", { type: "button", class: "quiet", title, "aria-expanded": "false", onclick: () => {
      const wasOpen = button.getAttribute("aria-expanded") === "true";
      for (const other of this.menu.querySelectorAll("[aria-expanded]")) other.setAttribute("aria-expanded", "false");
      button.setAttribute("aria-expanded", String(!wasOpen));
      this.opened = wasOpen ? null : make;
      this.#fill();
    } }, label);
    return button;
  }

  // What is open stays open, with the rows of the days and filters that are chosen now.
  #fill() {
    this.more.replaceChildren(...(this.opened && this.told ? [this.opened()] : []));
  }

  #download() {
    if (this.told) save(address(`api/charts/${this.name}.csv`, this.params), "");
  }

  async #picture() {
    if (!this.view) return;
    const background = getComputedStyle(this.element).backgroundColor;
    this.view.background(background);
    save(await this.view.toImageURL("png", 2), `${this.name}_${this.params.first_day}_${this.params.last_day}.png`);
  }
}

function save(href, name) {
  const link = element("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
