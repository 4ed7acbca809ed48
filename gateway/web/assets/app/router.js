// The URL has the page, the date range and the filters, so that back and forward work.
import { useEffect } from "./html.js";
import { inside, outside } from "./base.js";
import { store } from "./state.js";

// Parameters that links to other pages keep.
const KEPT = ["from", "to", "team"];

const read = () => ({ path: inside(location.pathname), query: new URLSearchParams(location.search) });

export const place = store(read());
addEventListener("popstate", () => place.set(read()));

// Go to a URL of the app that `linkTo` returned, such as "/teams/red?from=2026-11-01".
export function navigate(address, { replace = false } = {}) {
  const now = location.pathname + location.search;
  if (address !== now) history[replace ? "replaceState" : "pushState"](null, "", address);
  place.set(read());
}

// The current URL with these parameters changed; null, "" and undefined remove one.
export function withQuery(changes) {
  const query = new URLSearchParams(place.get().query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") query.delete(name);
    else query.set(name, value);
  }
  return address(place.get().path, query);
}

// Change parameters of the URL. "Back" undoes it, unless `replace`.
export const setQuery = (changes, options) => navigate(withQuery(changes), options);

// One parameter of the URL, "" if absent.
export const useQuery = (name) => place.use().query.get(name) ?? "";

// The URL of another page, with the date range and the team of this one.
export function linkTo(path, changes = {}) {
  const query = new URLSearchParams();
  for (const name of KEPT) {
    const value = name in changes ? changes[name] : place.get().query.get(name);
    if (value) query.set(name, value);
  }
  for (const [name, value] of Object.entries(changes)) {
    if (!KEPT.includes(name) && value) query.set(name, value);
  }
  return address(path, query);
}

function address(path, query) {
  const text = query.toString();
  return outside(text ? `${path}?${text}` : path);
}

// The route of a path and the values of its ":name" parts, or null.
export function match(routes, path) {
  for (const route of routes) {
    const names = fits(route.path.split("/"), path.split("/"));
    if (names) return { route, names };
  }
  return null;
}

function fits(pattern, parts) {
  if (pattern.length !== parts.length) return null;
  const names = {};
  for (const [index, piece] of pattern.entries()) {
    if (piece.startsWith(":") && parts[index]) names[piece.slice(1)] = decode(parts[index]);
    else if (piece !== parts[index]) return null;
  }
  return names;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// Follow ordinary links to the app's own pages without reloading.
export function useLinks(routes) {
  useEffect(() => {
    const follow = (event) => {
      const link = event.target.closest?.("a[href]");
      const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
      if (!link || !plain || event.defaultPrevented || link.target || link.hasAttribute("download")) return;
      const url = new URL(link.href);
      if (url.origin !== location.origin || url.hash || !match(routes, inside(url.pathname))) return;
      event.preventDefault();
      navigate(url.pathname + url.search);
    };
    document.addEventListener("click", follow);
    return () => document.removeEventListener("click", follow);
  }, [routes]);
}
