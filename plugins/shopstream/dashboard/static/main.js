// The frame of all pages: navigation, theme, and the page that the address names.

import { canDraw } from "./ask.js";
import { element } from "./format.js";
import { currentTheme, keepTheme, preferredTheme, useTheme } from "./theme.js";
import * as customer from "./customer.js";
import * as live from "./live.js";
import * as pipelines from "./pipelines.js";
import * as purchasing from "./purchasing.js";

/* global redrawForPaper */

const PAGES = { "": purchasing, live, customer, pipelines };

const nav = document.getElementById("nav");
const main = document.getElementById("main");
const name = location.pathname.slice(location.pathname.lastIndexOf("/") + 1);
const page = Object.hasOwn(PAGES, name) ? PAGES[name] : purchasing;

for (const [path, { title }] of Object.entries(PAGES)) {
  nav.append(element("a", { href: path || "./", "aria-current": path === name ? "page" : null }, title));
}

const button = document.getElementById("theme");
function show(theme) {
  useTheme(theme);
  button.textContent = theme === "dark" ? "Light" : "Dark";
  button.setAttribute("aria-label", `Show the ${button.textContent.toLowerCase()} theme`);
}
show(preferredTheme());
button.addEventListener("click", () => {
  const theme = currentTheme() === "dark" ? "light" : "dark";
  keepTheme(theme);
  show(theme);
  page.redraw?.();
});
canDraw.then(() => redrawForPaper(() => {
  if (currentTheme() === "dark") page.redraw?.();
}));

document.title = `${page.title} · shopstream`;
page.show(main, (text) => { document.getElementById("freshness").textContent = text; });
