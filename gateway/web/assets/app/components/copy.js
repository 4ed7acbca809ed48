// Puts a text on the clipboard, also where the page came without TLS.
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
    announce(worked ? `${what} copied.` : `${what} could not be copied: select it and copy by hand.`, { shown: !worked });
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

// The clipboard API is there for HTTPS and localhost alone. The field stands beside the button, as
// an open dialog keeps the focus inside.
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
