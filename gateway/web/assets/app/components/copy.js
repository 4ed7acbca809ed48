// Copies a text to the clipboard, also from a page without TLS.
import { classes, html, useEffect, useState } from "../html.js";
import { announce } from "../state.js";

export function CopyButton({ text, label = "Copy", what = "Text", quiet = false }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => setDone(false), 2_000);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async (event) => {
    const worked = await put(text, event.currentTarget);
    setDone(worked);
    announce(worked ? `${what} copied.` : `${what} could not be copied. Select it and copy it by hand.`, { shown: !worked });
  };
  return html`<button type="button" class=${classes("copy", quiet && "quiet")} onClick=${copy}>${done ? "Copied" : label}</button>`;
}

async function put(text, near) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return putByHand(text, near);
  }
}

// Browsers offer the clipboard API only over HTTPS and on localhost. The field is beside the button,
// because an open dialog keeps the focus inside.
function putByHand(text, near) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  near.after(field);
  field.select();
  const worked = document.execCommand("copy");
  field.remove();
  near.focus();
  return worked;
}
