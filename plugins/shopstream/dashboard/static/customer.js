// The page "Customer": one customer's journey from Spanner, sessions folded, the newest first, page by page.

import { ask } from "./ask.js";
import { addDays, amount, element, exact, longDay, price, span } from "./format.js";

export const title = "Customer";

const OLDEST = "2000-01-01";

export async function show(main, say) {
  say("");
  const shown = element("div", { "aria-live": "polite" });
  const input = element("input", { id: "user_id", name: "user_id", inputmode: "numeric", autocomplete: "off",
    pattern: "[0-9]{1,19}", required: true, size: 20, placeholder: "520088904" });
  const form = element("form", { class: "bar", onsubmit: (event) => {
    event.preventDefault();
    const user = input.value.trim();
    history.pushState(null, "", `?${new URLSearchParams({ user_id: user })}`);
    look(user, shown);
  } }, element("label", { for: "user_id" }, "Customer's number (user_id)", input), element("button", {}, "Show the journey"));
  main.replaceChildren(element("h1", {}, "Customer"), form,
    element("p", { class: "soft" }, "A number is personal: who looks one up is written to the log."), shown);
  const open = () => {
    input.value = new URLSearchParams(location.search).get("user_id") ?? "";
    if (input.value) look(input.value, shown);
    else shown.replaceChildren();
  };
  addEventListener("popstate", open);
  open();
  input.focus();
}

async function look(user, shown) {
  if (!/^\d{1,19}$/.test(user) || BigInt(user) < 1n || BigInt(user) >= 2n ** 63n) {
    shown.replaceChildren(element("p", { class: "note", role: "alert" },
      `“${user.slice(0, 40)}” is no customer's number. It is a whole number, such as 520088904.`));
    return;
  }
  shown.replaceChildren(element("p", { class: "soft waiting" }, "Looking…"));
  const today = new Date().toISOString().slice(0, 10);
  const known = await ask("api/days").catch(() => ({ rows: [] }));
  const last_day = known.rows[0]?.event_date ?? today;
  const oldest = known.rows.at(-1)?.event_date ?? OLDEST;
  const events = [];
  const list = element("div");
  const sum = element("p", { class: "verdict" }, "Looking…");
  const note = element("p", { class: "soft" });
  const failed = element("p", { class: "note", role: "alert" });
  const more = element("button", { type: "button", hidden: true });
  let next = last_day;
  let isRead = false; // of what was not read nothing is said
  let days = ""; // which are shown
  let stream = ""; // what of it is

  async function page() {
    more.disabled = true;
    failed.remove();
    const tell = (error) => {
      failed.replaceChildren(element("b", {}, error.store ? `${error.store}: ` : ""), error.message);
      list.before(failed);
    };
    try {
      const told = await ask("api/customer", { user_id: user, last_day: next });
      if (next === last_day) {
        const streamed = await ask("api/customer/streamed", { user_id: user, last_day })
          .catch((error) => (tell(error), { rows: [], failed: true }));
        stream = streamed.failed ? ", without what the stream brought since"
          : streamed.is_cut ? `, and the newest ${exact(streamed.rows.length)} events of those that the stream brought since`
            : ", and what the stream brought since";
        const there = new Set(told.rows.map((row) => row.event_id));
        events.push(...streamed.rows.filter((row) => !there.has(row.event_id)).map((row) => ({ ...row, streamed: true })));
      }
      events.push(...told.rows);
      next = told.next_last_day;
      const first = addDays(next, 1);
      more.hidden = next < oldest;
      more.textContent = `The ${told.days} days before`;
      days = `the days ${span(first < oldest ? oldest : first, last_day)}${stream}`;
      note.textContent = `Spanner answered in ${told.milliseconds} ms. Shown: ${days}.`;
      isRead = true;
    } catch (error) {
      tell(error);
      more.textContent = "Try again";
      more.hidden = false;
    }
    more.disabled = false;
    events.sort((a, b) => (a.event_time < b.event_time ? 1 : a.event_time > b.event_time ? -1 : 0));
    sum.textContent = isRead ? summary(user, events, days, !more.hidden) : `Customer ${user}: not read.`;
    list.replaceChildren(...sessions(events));
  }

  more.addEventListener("click", page);
  shown.replaceChildren(sum, list, note, more);
  await page();
}

const count = (number, what) => `${exact(number)} ${what}${number === 1 ? "" : "s"}`;

function summary(user, events, days, hasOlder) {
  if (!events.length) {
    return `No event of customer ${user} is in what was read: ${days}. `
      + (hasOlder ? "Look at the days before, or is the number wrong?" : "Is the number right?");
  }
  const bought = events.filter((event) => event.event_type === "purchase");
  const visits = new Set(events.map((event) => event.user_session));
  const orders = new Set(bought.map((event) => `${event.user_session} ${event.event_time.slice(0, 10)}`));
  return `Customer ${user}: first seen ${longDay(events.at(-1).event_time.slice(0, 10))}, last ${longDay(events[0].event_time.slice(0, 10))} · `
    + `${count(visits.size, "session")} · ${count(events.length, "event")} · ${count(orders.size, "order")} · ${amount(price)(bought.reduce((total, event) => total + event.price, 0))}`;
}

const from = ({ category_code }) => (category_code ? `, from ${category_code.replaceAll("_", " ")}` : "");

// Sessions in order of their newest event; events without one are together.
function sessions(events) {
  const groups = new Map();
  for (const event of events) {
    const name = event.user_session ?? "";
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(event);
  }
  return [...groups].map(([name, some], n) => {
    const [newest, oldest] = [some[0].event_time, some.at(-1).event_time];
    const minutes = Math.round((Date.parse(newest) - Date.parse(oldest)) / 60_000);
    const bought = some.filter((event) => event.event_type === "purchase");
    const steps = some.toReversed().map((event) => event.event_type).filter((kind, at, all) => kind !== all[at - 1]);
    return element("details", { class: "card", open: n === 0 },
      element("summary", {},
        element("b", {}, `${longDay(oldest.slice(0, 10))} ${oldest.slice(11, 16)} UTC`),
        name ? ` · session of ${minutes ? `${minutes} min` : "under a minute"}${from(some.at(-1))}` : " · events without a session",
        ` · ${steps.slice(0, 8).join(" › ")}${steps.length > 8 ? " …" : ""}`,
        bought.length ? element("b", {}, ` · ${amount(price)(bought.reduce((total, event) => total + event.price, 0))}`) : ""),
      element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Events of the session of ${oldest}` },
        element("table", {}, element("tbody", {}, some.map((event) => element("tr", {},
          element("td", { class: "text" }, event.event_time.slice(11, 19)),
          element("td", { class: `text kind ${event.event_type}` }, event.event_type),
          element("td", { class: "text" }, [event.brand, event.category_code?.replaceAll("_", " ")].filter(Boolean).join(", ") || "–"),
          element("td", {}, `product ${event.product_id}`),
          element("td", {}, price(event.price)),
          element("td", { class: "text" }, event.streamed ? "from the stream" : "")))))));
  });
}
