// Questions to the server; the pages are at any base path, so addresses are relative.

// Scripts run in the page's order, the chart library after these modules: so the first questions are asked while it is
// fetched. A chart is drawn once it is there.
export const canDraw = new Promise((go) => document.addEventListener("DOMContentLoaded", go, { once: true }));

export class Refused extends Error {
  constructor(message, store) {
    super(message);
    this.store = store;
  }
}

export const address = (path, params = {}) => {
  const chosen = Object.entries(params).filter(([, value]) => value != null && value !== "");
  return chosen.length ? `${path}?${new URLSearchParams(chosen)}` : path;
};

const AGAIN_MS = 500;

export async function ask(path, params = {}) {
  const once = () => fetch(address(path, params), { headers: { Accept: "application/json" } });
  let response;
  try {
    // A browser gives up what is under way when the machine's network changes.
    response = await once().catch(() => new Promise((go) => setTimeout(go, AGAIN_MS)).then(once));
  } catch {
    throw new Refused("The server does not answer. Is it running, and are you online?");
  }
  if (response.ok) return response.json();
  if (response.status === 401) throw new Refused("Your login has ended. Log in again and reload this page.");
  if (response.status === 403) throw new Refused("You may not see this. Ask an administrator for access to plugins.");
  const told = await response.json().catch(() => ({}));
  const detail = typeof told.detail === "string" ? told.detail : `The server answered ${response.status}.`;
  throw new Refused(detail, told.store);
}
