// Requests to the admin API. Every failure is an ApiError; an expired session leads to sign-in.
import { useCallback, useEffect, useRef, useState } from "./html.js";
import { BASE } from "./base.js";
import { session } from "./state.js";

const ENDED = "Your session has expired. Sign in again.";

// `faults` are messages about fields, by the name of the field in its form.
export class ApiError extends Error {
  constructor(message, { status = 0, code = "", param = null, faults = [], requestId = "", retryAfter = 0 } = {}) {
    super(message);
    const named = Object.fromEntries(faults.map((fault) => [fault.path.at(-1), fault.message]));
    Object.assign(this, { status, code, param, faults: named, requestId, retryAfter });
  }
}

// Send one request to `path` under /admin/v1/, without the empty values of `query`. Returns
// { data, headers }.
export async function ask(method, path, { body, query, headers, signal } = {}) {
  const response = await fetched(`${BASE}admin/v1/${path}${queryText(query)}`, {
    method,
    signal,
    headers: {
      "X-Gateway-Dashboard": BASE, // the path of the session's cookie
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const data = await readJson(response);
  if (response.ok) return { data, headers: response.headers };
  if (response.status === 401 && session.get().state === "in") {
    cached.clear();
    session.set({ state: "out", message: ENDED });
  }
  throw failure(response, data);
}

export const get = async (path, query, signal) => (await ask("GET", path, { query, signal })).data;
export const send = async (method, path, body, headers) =>
  (await ask(method, path, { body, headers })).data;

async function fetched(url, options) {
  try {
    return await fetch(url, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The gateway does not answer. It may be restarting, or the network is down.");
  }
}

async function readJson(response) {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

function failure(response, data) {
  const fields = data?.error ?? {};
  return new ApiError(fields.message ?? `The gateway answered with status ${response.status}.`, {
    status: response.status,
    code: fields.code,
    param: fields.param,
    faults: fields.faults,
    requestId: response.headers.get("X-Request-Id") ?? "",
    retryAfter: Number(response.headers.get("Retry-After") ?? 0),
  });
}

function queryText(query = {}) {
  const set = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return set.length ? `?${new URLSearchParams(set)}` : "";
}

// -- sessions -------------------------------------------------------------------------------------

export async function findSession() {
  try {
    session.set({ state: "in", ...(await get("session")) });
  } catch (error) {
    const message = error.status === 401 ? "" : error.message;
    session.set({ state: "out", message });
  }
}

export async function signIn(token) {
  session.set({ state: "in", ...(await send("POST", "session", { token })) });
}

export async function signOut() {
  await ask("DELETE", "session");
  cached.clear();
  session.set({ state: "out", message: "You are signed out." });
}

// -- loading --------------------------------------------------------------------------------------

// The result of `load(signal)`, which runs again whenever `inputs` change:
// { state: "loading" | "ready" | "error", data, error, busy, reload }.
// During a reload the previous data stays and `busy` is true.
export function useLoad(load, inputs) {
  const [shown, setShown] = useState({ state: "loading", busy: true });
  const [turn, setTurn] = useState(0);
  const loading = useRef(load);
  loading.current = load;
  useEffect(() => {
    const stop = new AbortController();
    setShown((former) => (former.state === "error" ? { state: "loading", busy: true } : { ...former, busy: true }));
    Promise.resolve()
      .then(() => loading.current(stop.signal))
      .then((data) => stop.signal.aborted || setShown({ state: "ready", data, busy: false }))
      .catch((error) => stop.signal.aborted || setShown({ state: "error", error, busy: false }));
    return () => stop.abort();
  }, [...inputs, turn]);
  const reload = useCallback(() => setTurn((count) => count + 1), []);
  return { ...shown, reload };
}

const CACHE_MILLISECONDS = 30_000;
const cached = new Map();

// An answer that is cached for half a minute, for data that several parts of a page need.
export function getCached(path) {
  const found = cached.get(path);
  if (found && Date.now() - found.at < CACHE_MILLISECONDS) return found.answer;
  const answer = get(path);
  cached.set(path, { at: Date.now(), answer });
  answer.catch(() => cached.delete(path));
  return answer;
}

export const forget = (path) => cached.delete(path);
