// The page "Pipelines": is it well; if not, since when, and what to do. Loads, rejects, checks, and the stream.

import { ask } from "./ask.js";
import { addDays, allDays, element, exact, line, longDay, moment, percent, table } from "./format.js";

export const title = "Pipelines";

const DAYS = 31;
const RECENT_DAYS = 7; // what is older has been seen; the squares still show it
const WARN_SHARE = 0.01;
const today = new Date().toISOString().slice(0, 10);

export async function show(main, say) {
  main.replaceChildren(element("h1", {}, "Pipelines"), element("p", { class: "soft waiting" }, "Loading…"));
  let newest = today;
  try {
    // Where nothing happened of late, as after a demo of old days, the newest days that there are.
    newest = (await ask("api/days")).rows[0]?.event_date ?? today;
  } catch {
    // Each card tells by itself what it cannot have.
  }
  const last_day = newest < addDays(today, -DAYS) ? newest : today;
  const days = { first_day: addDays(last_day, 1 - DAYS), last_day };
  const links = await ask("api/links").catch(() => ({}));
  say("");

  const asked = {
    loads: ask("api/pipelines/loads", days),
    checked: ask("api/pipelines/checked", days),
    checks: ask("api/pipelines/checks", days),
    rejects: ask("api/pipelines/rejects", days),
    samples: ask("api/pipelines/samples", days),
    // The stream is watched by the clock of now, whatever days it brings.
    stream: ask("api/pipelines/stream", { first_day: addDays(today, -2), last_day: today }),
    completeness: ask("api/pipelines/completeness", days),
    objectives: ask("api/pipelines/objectives", days),
    figures: ask("api/pipelines/figures", days),
  };
  const told = await settled(asked);
  main.replaceChildren(
    element("h1", {}, "Pipelines"),
    verdict(told, days),
    element("p", { class: "soft" }, `Landing days from ${longDay(days.first_day)} to ${longDay(days.last_day)}; days and hours are UTC.`,
      links.airflow == null ? null : " What can be done opens in Airflow: the form is behind the button Trigger there."),
    element("div", { class: "cards" },
      card("Was every day loaded?", { "Load a day": "load_events_daily", "Land an export": "land_export" }, links, told.loads,
        (rows) => loads(rows, told.checked, days)),
      card("Why were lines rejected?", { "Load a corrected day": "load_events_daily" }, links, told.rejects,
        (rows, types) => rejects(rows, types, told.samples)),
      card("What did the checks find?", { "Build a day": "build_summaries" }, links, told.checks, (rows) => checks(rows, told.checked)),
      card("Is the stream well?", { "Start it": "keep_stream_alive", "Stop it": "stop_stream", "Play a day": "simulate_stream" }, links,
        told.stream, stream),
      card("Is the stream complete?", { "Compare days": "compare_stream_with_batch" }, links, told.completeness, completeness),
      card("Which figures were not as usual?", { "Judge days": "watch_figures" }, links, told.figures,
        (rows) => figures(rows, told.checked)),
      card("Are the promises kept?", { "Tell a day": "tell_digest" }, links, told.objectives, objectives)));
}

async function settled(asked) {
  const names = Object.keys(asked);
  const results = await Promise.allSettled(Object.values(asked));
  return Object.fromEntries(results.map((result, n) =>
    [names[n], result.status === "fulfilled" ? result.value : { error: result.reason }]));
}

// `actions` are what can be done, each with its DAG; the runs are those of the first.
function card(question, actions, links, told, draw) {
  const to = (path, text, title) =>
    element("a", { href: `${links.airflow}${path}`, title, target: "_blank", rel: "noopener" }, text);
  // Airflow's form has no address of its own: it is behind the button Trigger of the DAG's page.
  const [first] = Object.values(actions);
  const link = links.airflow == null ? [] : [
    ...Object.entries(actions).map(([text, dag]) => to(`/dags/${dag}`, text, `The DAG ${dag}, and there Trigger`)),
    to(`/dags/${first}/runs`, "Runs", `The runs of ${first}`),
    first === "load_events_daily" ? to(`/dags/${first}/required_actions`, "Questions", "What loads have asked") : null];
  const body = told.error
    ? element("p", { class: "failed", role: "alert" }, element("b", {}, told.error.store ? `${told.error.store}: ` : ""), told.error.message)
    : draw(told.rows, told.types);
  return element("section", { class: "card wide" },
    element("header", {}, element("h2", {}, question), element("div", { class: "menu links" }, link)), body);
}

// The first line of the page: one sentence, and what to do.
function verdict({ loads, checked, stream, figures, objectives }, days) {
  const wrong = [];
  const odd = [];
  const fine = [];
  const isRecent = (day) => day > addDays(days.last_day, -RECENT_DAYS);
  if (loads.rows) {
    const newest = loads.rows[0];
    const gaps = missingDays(loads.rows, days).filter(isRecent);
    if (!newest) wrong.push("no day has been published in these 31 days");
    else {
      fine.push(`${longDay(newest.landing_day)} was published ${moment(newest.loaded_at)}, `
        + `${exact(newest.rejected)} of ${exact(newest.read)} lines rejected`);
    }
    if (gaps.length) wrong.push(`not published: ${some(gaps)}`);
    const many = loads.rows.filter((row) => isRecent(row.landing_day) && row.rejected > WARN_SHARE * row.read);
    if (many.length) wrong.push(`more than ${percent(WARN_SHARE, 0)} of the lines rejected: ${some(many.map((row) => row.landing_day))}`);
  } else wrong.push("the loads cannot be read");
  const failed = (checked.rows ?? []).filter((row) => isRecent(row.event_date) && row.failed);
  if (failed.length) wrong.push(`checks failed: ${some(failed.map((row) => row.event_date))}`);
  const warned = (checked.rows ?? []).filter((row) => isRecent(row.event_date) && row.warned);
  const warnings = warned.reduce((sum, row) => sum + row.warned, 0);
  if (warnings) odd.push(`${counted(warnings, "check warns", "checks warn")} (${some(warned.map((row) => row.event_date))})`);
  const unusual = [...new Set((figures.rows ?? []).map((row) => row.event_date).filter(isRecent))];
  if (unusual.length) wrong.push(`figures not as usual: ${some(unusual)}`);
  const broken = (objectives.rows ?? []).filter(isBroken);
  if (broken.length) wrong.push(`promises broken: ${broken.map((row) => promised(row).toLowerCase()).join("; ")}`);
  const last = stream.rows?.[0];
  if (last?.desired === "running" && last.level !== "ok") wrong.push(`the stream is at level ${last.level} since ${moment(since(stream.rows))}`);
  else if (last?.desired === "running") fine.push(`the stream is well as of ${moment(last.checked_at)}`);
  else if (last) fine.push("the stream is stopped, as wanted");
  const [kind, mark] = wrong.length ? ["bad", "▲ "] : odd.length ? ["odd", "~ "] : ["good", "● "];
  const well = fine.length ? ` ${kind === "good" ? "All well" : "Well"}: ${fine.join("; ")}.` : "";
  const text = kind === "bad" ? `Look at this: ${[...wrong, ...odd].join("; ")}.${well}`
    : kind === "odd" ? `Well, but ${odd.join("; ")}: ${fine.join("; ")}.` : well;
  return element("p", { class: `verdict ${kind}`, role: "status" },
    element("span", { "aria-hidden": "true" }, mark), text.trimStart());
}

function since(rows) {
  let oldest = rows[0];
  for (const row of rows) {
    if (row.level === "ok") break;
    oldest = row;
  }
  return oldest.checked_at;
}

const counted = (number, one, several) => `${exact(number)} ${number === 1 ? one : several}`;

const some = (days) => days.length > 4
  ? `${days.slice(0, 3).map((day) => longDay(day, false)).join(", ")} and ${days.length - 3} more`
  : days.map((day) => longDay(day, false)).join(", ");

// Days without a published load between the first published one and the last; today may still come.
function missingDays(rows, { last_day }) {
  if (!rows.length) return [];
  const there = new Set(rows.map((row) => row.landing_day));
  const oldest = rows.at(-1).landing_day;
  const due = last_day === today ? addDays(today, -2) : rows[0].landing_day;
  return oldest > due ? [] : allDays(oldest, due).filter((day) => !there.has(day));
}

function loads(rows, checked, days) {
  const byDay = new Map(rows.map((row) => [row.landing_day, row]));
  const checks = new Map((checked.rows ?? []).map((row) => [row.event_date, row]));
  const missing = new Set(missingDays(rows, days));
  const square = (day) => {
    const row = byDay.get(day);
    const found = checks.get(day);
    const [kind, mark, text] = !row
      ? missing.has(day) ? ["red", "!", "not published"] : ["none", "", "no load"]
      : row.spanner_rows !== row.bigquery_rows ? ["red", "!", "Spanner and BigQuery differ"]
        : found?.failed ? ["red", "!", counted(found.failed, "check failed", "checks failed")]
          : row.rejected > WARN_SHARE * row.read ? ["amber", "~", `${percent(row.rejected / row.read, 2)} rejected${approval(row)}`]
            : found?.warned ? ["amber", "~", counted(found.warned, "check warns", "checks warn")]
              : ["green", "✓", "published, all well"];
    return element("li", { class: kind, title: `${longDay(day)}: ${text}` },
      element("span", { "aria-hidden": "true" }, mark), element("small", {}, day === days.first_day || day.endsWith("-01") ? longDay(day, false) : String(Number(day.slice(8)))),
      element("span", { class: "hidden" }, `${longDay(day)}: ${text}`));
  };
  const asked = rows.filter((row) => row.approved_by != null);
  const columns = { landing_day: "DATE", read: "INT64", accepted: "INT64", rejected: "INT64", duplicates: "INT64",
    late: "INT64", spanner_rows: "INT64", bigquery_rows: "INT64", loaded_at: "TIMESTAMP", load_id: "STRING" };
  return element("div", {},
    element("ul", { class: "strip" }, allDays(days.first_day, days.last_day).map(square)),
    element("p", { class: "soft" }, "✓ published · ~ many rejected lines or a check that warns · ! not published, a failed check, or stores that differ"),
    asked.length ? element("div", {}, element("p", {}, "Published by a person's word:"),
      element("ul", { class: "findings" }, asked.map((row) => element("li", {},
        `${longDay(row.landing_day)}: ${percent(row.rejected / row.read, 2)} rejected${approval(row)}: ${row.approval_reason}`)))) : null,
    rows.length ? table(rows, columns, "loads")
      : element("p", { class: "empty" }, "No load yet. Land a day's files and its mark _SUCCESS; load_events_daily does the rest."));
}

const approval = (row) => (row.approved_by == null ? "" : `, published by ${row.approved_by}`);

function rejects(rows, types, samples) {
  if (!rows.length) return element("p", { class: "empty" }, "No line was rejected in these days.");
  const shown = (row) => (samples.rows ?? []).filter((sample) => sample.reason === row.reason && sample.source === row.source);
  return element("div", {},
    table(rows, types, "reasons"),
    element("details", {}, element("summary", {}, "Lines as they came"), rows.map((row) => element("div", {},
      element("h3", {}, `${row.reason} (${row.source})`),
      shown(row).map((sample) => element("div", {},
        element("p", { class: "soft" }, [sample.detail, sample.file, sample.byte_offset == null ? null : `byte ${exact(sample.byte_offset)}`].filter(Boolean).join(" · ")),
        element("pre", { tabindex: 0 }, text(sample.raw_start_in_hex))))))),
    element("p", { class: "soft" }, "How to mend them and load them again is told in the project's docs/runbooks/rejected-rows.md."));
}

// The first bytes of a line, whatever they are; what is no UTF-8 is shown as a replacement character.
const text = (hex) => new TextDecoder().decode(new Uint8Array(hex.match(/../g)?.map((pair) => parseInt(pair, 16)) ?? []));

function checks(rows, checked) {
  const all = (checked.rows ?? []).reduce((sum, row) => sum + row.checks, 0);
  if (!all) return element("p", { class: "empty" }, "No checks have run in these days.");
  if (!rows.length) return element("p", {}, `All ${exact(all)} checks passed.`);
  return element("div", {},
    element("p", {}, `${exact(rows.length)} of ${exact(all)} checks found something.`),
    element("ul", { class: "findings" }, rows.map((row) => element("li", {},
      element("b", { class: row.severity === "fail" ? "worse" : "" }, row.severity), " ", row.finding ?? ""))));
}

function stream(rows, types) {
  if (!rows.length) {
    return element("p", { class: "empty" }, "The stream has not been watched in the last two days: unpause keep_stream_alive.");
  }
  const last = rows[0];
  const seconds = (value) => (value == null ? "–" : value < 90 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`);
  const figure = (name, value, column) => element("div", { class: "figure" }, element("dt", {}, name),
    element("dd", { class: "big" }, value),
    rows.length > 2 ? element("dd", {}, line(rows.map((row) => row[column]).reverse())) : null);
  return element("div", {},
    element("p", {}, `${last.desired === "running" ? "Wanted running" : "Wanted stopped"}, level ${last.level}, looked at ${moment(last.checked_at)}: ${last.reason}`),
    element("dl", { class: "figures" },
      figure("Oldest unacknowledged message", seconds(last.oldest_unacked_seconds), "oldest_unacked_seconds"),
      figure("Newest row", seconds(last.newest_row_seconds), "newest_row_seconds"),
      figure("Rejected, last hour", last.rejected_share == null ? "–" : percent(last.rejected_share, 2), "rejected_share")),
    rows.length > 2 ? element("p", { class: "soft" }, "The lines are of the last two days, each from 0.") : null,
    element("details", {}, element("summary", {}, "Each look of the last two days"), table(rows, types, "looks at the stream")));
}

function completeness(rows, types) {
  if (!rows.length) return element("p", { class: "empty" }, "Stream and loads have not been compared in these days.");
  const [batch, only] = ["batch_events", "only_in_batch"].map((name) => rows.reduce((sum, row) => sum + row[name], 0));
  return element("div", {},
    element("p", {}, batch ? `The stream brought ${percent(1 - only / batch, 2)} of the ${exact(batch)} events of the daily loads.`
      : "The daily loads have no events in these days."),
    table(rows, types, "stream and loads compared"));
}

function figures(rows, checked) {
  // A day whose summaries were built has been checked.
  const none = checked.rows?.length === 0 ? "No summaries were built in these days, so that there was no figure to judge."
    : "No figure was found that was not as usual.";
  const held = "A day is held against the same weekday of the weeks before it; with too few of those it is not judged.";
  return element("div", {}, rows.length
    ? element("ul", { class: "findings" }, rows.map((row) => element("li", {}, row.finding)))
    : element("p", { class: "empty" }, none),
  element("p", { class: "soft" }, held));
}

const PROMISES = {
  accepted_lines: "Lines accepted",
  fresh_days: "Days published within 6 hours of their end",
  passed_checks: "Checks of the summaries passed",
  streamed_events: "Events of the daily loads that came by the stream too",
};
const promised = (row) => PROMISES[row.objective] ?? row.objective;
const isBroken = (row) => row.share_of_budget_left != null && row.share_of_budget_left < 0;

function objectives(rows) {
  if (!rows.length) return element("p", { class: "empty" }, "The promises have not been reckoned in these days: unpause tell_digest.");
  const line = (row) => {
    const kept = row.total ? `${exact(row.good)} of ${exact(row.total)}, ${percent(row.good / row.total, 2)}` : "nothing yet";
    const left = row.share_of_budget_left;
    const budget = left == null ? null
      : left < 0 ? element("b", { class: "worse" }, `Broken: ${exact(Number((1 - left).toPrecision(2)))} times what may go wrong.`)
        : `${percent(left, 0)} of what may go wrong is left.`;
    return element("li", {}, `${promised(row)}: ${kept}; promised are ${exact(100 * row.promised_share)} %. `, budget);
  };
  const broken = rows.filter(isBroken).length;
  return element("div", {},
    element("p", {}, `Of the 30 days up to ${longDay(rows[0].event_date)}: `,
      broken ? element("b", { class: "worse" }, `${broken} of ${rows.length} are broken.`) : "all are kept."),
    element("ul", { class: "findings" }, rows.map(line)));
}
