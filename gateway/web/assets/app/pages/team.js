// One team: its limits, its policy and its keys.
import { html, useState } from "../html.js";
import { ask, forget, get, useLoad } from "../api.js";
import { Confirm } from "../components/dialog.js";
import { Empty, Loaded } from "../components/notice.js";
import { Page, Panel } from "../components/page.js";
import { Quotas } from "../components/quota.js";
import { count, seconds } from "../format.js";
import { linkTo, navigate } from "../router.js";
import { announce, useMayChange } from "../state.js";
import { Keys } from "./keys.js";
import { TeamForm } from "./team_form.js";

export function Team({ team: name }) {
  const path = encodeURIComponent(name);
  const load = useLoad(async (signal) => {
    const [found, quota, { keys }] = await Promise.all([
      ask("GET", `teams/${path}`, { signal }), get(`quota/${path}`, {}, signal), get("keys", { team: name }, signal),
    ]);
    return { team: found.data, etag: found.headers.get("ETag"), quota, keys };
  }, [name]);
  const [open, setOpen] = useState(null);
  const mayChange = useMayChange();
  const close = () => setOpen(null);
  const actions = mayChange && load.data && html`<button type="button" onClick=${() => setOpen("change")}>Change</button>
    <button type="button" onClick=${() => setOpen("delete")}>Delete</button>`;
  if (load.error?.status === 404) return html`<${Page} title=${name}><${Gone} /><//>`;
  return html`<${Page} title=${name} about="Team" actions=${actions}>
    <nav class="links" aria-label="More about this team">
      <a href=${linkTo("/teams")}>All teams</a>
      <a href=${linkTo("/", { team: name })}>Its spend</a>
      <a href=${linkTo("/activity", { team: name })}>Its requests</a>
    </nav>
    <${Loaded} load=${load} lines=${8} title="The team could not be loaded">
      ${({ team, quota, keys }) => html`
        <div class="halves">
          <${Panel} title="Limits" about="Current usage of all its keys together">
            ${quota.limits.length ? html`<${Quotas} limits=${quota.limits} owner=${team.team} />`
              : html`<${Empty} title="No limits"><p>Only limits of keys and of the gateway apply${mayChange ? ". Select Change to set limits" : ""}.</p><//>`}
          <//>
          <${Rules} team=${team} />
        </div>
        <${Keys} team=${team.team} keys=${keys} quotas=${quota.keys} mayChange=${mayChange} reload=${load.reload} />`}
    <//>
    ${open === "change" && html`<${TeamForm} former=${load.data.team} etag=${load.data.etag} onClose=${close} onDone=${load.reload} />`}
    ${open === "delete" && html`<${Delete} team=${load.data} onClose=${close} />`}
  <//>`;
}

const Gone = () => html`<${Empty} title="Team not found"><p><a href=${linkTo("/teams")}>All teams</a></p><//>`;

function Rules({ team }) {
  const list = (names) => (names === null ? "all" : names.join(", ") || "none");
  const rows = [
    ["Models", list(team.models)],
    ["Sizes", list(team.sizes)],
    ["Qualities", list(team.qualities)],
    ["Images a request", team.max_n === null ? "the model's maximum" : `at most ${count(team.max_n)}`],
    ["Cache", team.cache ? "on: identical requests get cached answers" : "off: every request buys new images"],
    ["Form of pictures", team.deliver ?? "as the gateway's configuration says"],
    ["Repeats of an unknown outcome", repeats(team.unknown_hold_seconds)],
  ];
  return html`<${Panel} title="Allowed requests"><dl class="facts">
    ${rows.map(([label, text]) => html`<div key=${label}><dt>${label}</dt><dd>${text}</dd></div>`)}
  </dl><//>`;
}

function repeats(hold) {
  if (hold === null) return "refused for as long as the gateway's configuration says";
  return hold === 0 ? "bought again at once" : `refused for ${seconds(hold)}`;
}

function Delete({ team: { team, etag }, onClose }) {
  const act = async () => {
    await ask("DELETE", `teams/${encodeURIComponent(team.team)}`, { headers: { "If-Match": etag } });
    forget("teams");
    announce(`Team ${team.team} was deleted.`, { shown: true });
    navigate(linkTo("/teams", { team: "" }));
  };
  return html`<${Confirm} title=${`Delete ${team.team}?`} action="Delete team" danger act=${act} onClose=${onClose}>
    <p>This revokes all its keys. They cannot be enabled again. The team's usage stays in the history and in the gateway's limits.</p>
  <//>`;
}
