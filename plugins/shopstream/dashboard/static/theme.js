// Light and dark: style.css holds the colours, and the charts' configuration takes them from there.

/* global hatched */

const root = document.documentElement;

export function currentTheme() {
  return root.dataset.theme;
}

export function useTheme(name) {
  root.dataset.theme = name;
}

export function preferredTheme() {
  const kept = read();
  return kept ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

export function keepTheme(name) {
  try {
    localStorage.setItem("shopstream-theme", name);
  } catch {
    // A browser that keeps nothing shows the theme until the page is left.
  }
}

function read() {
  try {
    return localStorage.getItem("shopstream-theme");
  } catch {
    return null;
  }
}

// The report's configuration with the colours of the page's theme.
export function chartConfig(config) {
  const style = getComputedStyle(root);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const made = structuredClone(config);
  made.background = "transparent";
  made.range = { category: [colour("view"), colour("cart"), colour("purchase")], heatmap: colour("heat").split(" "),
    ramp: colour("heat").split(" ") };
  const params = { ink: "ink", paper: "card", on_mark: "on-mark", on_cart: "on-cart", view: "view", cart: "cart",
    purchase: "purchase", earlier: "earlier" };
  made.params = Object.entries(params).map(([name, token]) => ({ name, value: colour(token) }));
  for (const type of ["view", "cart", "purchase"]) {
    made.params.push({ name: `${type}_hatched`, value: hatched(colour(type), colour("card")) });
  }
  Object.assign(made.axis, { labelColor: colour("soft"), titleColor: colour("soft"), domainColor: colour("earlier"),
    tickColor: colour("earlier"), gridColor: colour("grid") });
  made.header.labelColor = colour("ink");
  Object.assign(made.legend, { labelColor: colour("soft"), titleColor: colour("soft") });
  made.text.color = colour("ink");
  return made;
}
