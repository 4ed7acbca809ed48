// The path under which the browser reaches the admin port: "/", or "/gw/" behind a proxy that adds it.
export const BASE = new URL("../../", import.meta.url).pathname;

// The path of a page or file under BASE, for the browser: "/teams" is "/gw/teams".
export const outside = (path) => BASE + path.slice(1);

// The reverse of it; "" for a path that is not under BASE.
export const inside = (path) => (path.startsWith(BASE) ? path.slice(BASE.length - 1) : "");
