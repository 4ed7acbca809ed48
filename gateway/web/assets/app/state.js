// State that all parts of the app share: the session, the theme, and announcements.
import { useEffect, useState } from "./html.js";

// An observable value: `use()` in a component, `get()` and `set()` anywhere.
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
// message: why the user has to sign in again.
export const session = store({ state: "asking" });

// Whether the user may change things.
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
    // Without storage the choice lasts until the page is closed.
  }
  theme.set(name);
  recolour();
}

// A number that changes with the colours, for charts, which draw with them directly.
export const colours = store(0);
const recolour = () => colours.set(colours.get() + 1);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

// -- announcements --------------------------------------------------------------------------------

// The next announcement of screen readers, also shown briefly at the bottom of the page.
export const announcement = store({ text: "", shown: false, count: 0 });

export function announce(text, { shown = false } = {}) {
  announcement.set({ text, shown, count: announcement.get().count + 1 });
}
