// A list that the API sends in pages: the first one, and further ones that the user loads.
import { html, useEffect, useState } from "../html.js";
import { Problem } from "./dialog.js";

// `first` is the first answer, with its rows under `name` and the next page's place as `next`.
// `load(before)` loads a further answer, `children(rows)` draws all rows so far.
export function Pages({ first, name, load, label, children }) {
  const [shown, setShown] = useState(first);
  const [state, setState] = useState({ busy: false, error: null });
  useEffect(() => setShown(first), [first]);
  const more = async () => {
    setState({ busy: true, error: null });
    try {
      const { next, ...further } = await load(shown.next);
      setShown({ [name]: [...shown[name], ...further[name]], next });
      setState({ busy: false, error: null });
    } catch (error) {
      setState({ busy: false, error });
    }
  };
  return html`${children(shown[name])}
    <${Problem} error=${state.error} />
    ${shown.next && html`<button type="button" disabled=${state.busy} onClick=${more}>${state.busy ? "Loading …" : label}</button>`}`;
}
