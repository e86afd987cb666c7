// Light and dark: style.css holds the colours, and the charts' configuration takes them from there.

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
