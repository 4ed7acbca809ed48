import { html } from "../html.js";
import { Empty } from "../components/notice.js";
import { Page } from "../components/page.js";

export const NotFound = () => html`<${Page} title="Page not found">
  <${Empty} title="The dashboard has no page at this URL."><p><a href="/">Go to the overview</a></p><//>
<//>`;
