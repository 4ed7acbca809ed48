import { html } from "../html.js";
import { Empty } from "../components/notice.js";
import { Page } from "../components/page.js";
import { linkTo } from "../router.js";

export const NotFound = () => html`<${Page} title="Page not found">
  <${Empty} title="The dashboard has no page at this URL."><p><a href=${linkTo("/")}>Go to the overview</a></p><//>
<//>`;
