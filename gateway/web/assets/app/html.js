// The only import of Preact, for all other files.
import { Fragment, createContext, h, render } from "../vendor/preact.mjs";
import { useCallback, useContext, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "../vendor/hooks.mjs";
import htm from "../vendor/htm.mjs";

export const html = htm.bind(h);
export {
  Fragment, createContext, render, useCallback, useContext, useEffect, useId, useLayoutEffect, useMemo, useRef, useState,
};

// classes("a", wrong && "b") is "a b" or "a".
export const classes = (...names) => names.filter(Boolean).join(" ");
