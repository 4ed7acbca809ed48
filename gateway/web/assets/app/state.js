// What all parts of the app know: who is signed in, the theme, and what screen readers are told.
import { useEffect, useState } from "./html.js";

// A value that components follow: `use()` in a component, `get()` and `set()` anywhere.
export function store(value) {
  const followers = new Set();
  return {
    get: () => value,
    set(next) {
      value = next;
      followers.forEach((follow) => follow(next));
    },
    use() {
      const [, draw] = useState(0);
      useEffect(() => {
        const seen = value;
        const follow = () => draw((count) => count + 1);
        followers.add(follow);
        if (seen !== value) follow();
        return () => followers.delete(follow);
      }, []);
      return value;
    },
  };
}

// -- session --------------------------------------------------------------------------------------

// state: "asking", "out" or "in"; who: the token's name; role: "admin" or "viewer";
// message: why somebody has to sign in again.
export const session = store({ state: "asking" });

// Whether who is signed in may change things.
export const useMayChange = () => session.use().role === "admin";

// -- theme ----------------------------------------------------------------------------------------

const THEME = "gateway-theme";

function readTheme() {
  try {
    return localStorage.getItem(THEME) ?? "system";
  } catch {
    return "system";
  }
}

export const theme = store(readTheme());

export function chooseTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem(THEME, name);
  } catch {
    // No storage: it holds until the page is left.
  }
  theme.set(name);
  recolour();
}

// A number that changes when the colours do, for what draws with them itself.
export const colours = store(0);
const recolour = () => colours.set(colours.get() + 1);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

// -- announcements --------------------------------------------------------------------------------

// What a screen reader says next, and what a sighted person sees for a moment at the bottom.
export const announcement = store({ text: "", shown: false, count: 0 });

export function announce(text, { shown = false } = {}) {
  announcement.set({ text, shown, count: announcement.get().count + 1 });
}
