import { html } from "../html.js";
import { Empty } from "../components/notice.js";
import { Page } from "../components/page.js";

export const NotFound = () => html`<${Page} title="No such page">
  <${Empty} title="The dashboard has no page at this address."><p><a href="/">Go to the overview</a></p><//>
<//>`;
