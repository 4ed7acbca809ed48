// Exchanges an admin token for a session. The URL stays, so that its page follows.
import { html, useEffect, useRef, useState } from "../html.js";
import { signIn } from "../api.js";
import { outside } from "../base.js";
import { Field } from "../components/field.js";
import { Notice } from "../components/notice.js";
import { leftPage } from "../components/page.js";
import { ThemeChoice } from "../components/shell.js";
import { session } from "../state.js";

export function SignIn() {
  const { message } = session.use();
  const [token, setToken] = useState("");
  const [state, setState] = useState({ busy: false, fault: "" });
  const input = useRef(null);
  useEffect(() => {
    document.title = "Sign in · Image gateway";
    leftPage();
    input.current?.focus();
  }, []);

  const submit = async (event) => {
    event.preventDefault();
    setState({ busy: true, fault: "" });
    try {
      await signIn(token.trim());
    } catch (error) {
      setState({ busy: false, fault: messageOf(error) });
      input.current?.focus();
    }
  };
  return html`<main class="sign-in">
    <div class="panel">
      <h1><img src=${outside("/assets/icon.svg")} alt="" width="28" height="28" />Image gateway</h1>
      ${message && html`<${Notice} kind="info" role="status"><p>${message}</p><//>`}
      <form onSubmit=${submit}>
        <input type="text" name="username" autocomplete="username" value="Image gateway" hidden readonly />
        <${Field} name="token" label="Admin token" hint="The value of GATEWAY_ADMIN_TOKEN, or a token from “gateway admin token”.">
          ${(attributes) => html`<input ...${attributes} ref=${input} type="password" required autocomplete="current-password"
            spellcheck=${false} value=${token} onInput=${(event) => setToken(event.currentTarget.value)} />`}
        <//>
        <div role="alert" class="problem">${state.fault && html`<p>${state.fault}</p>`}</div>
        <button class="main" disabled=${state.busy}>${state.busy ? "Signing in …" : "Sign in"}</button>
      </form>
    </div>
    <${ThemeChoice} />
  </main>`;
}

function messageOf(error) {
  if (error.status === 401) return "This is not an admin token of this gateway.";
  if (error.status === 429) return `Too many wrong tokens from your address. Try again in ${error.retryAfter} seconds.`;
  return error.message;
}
