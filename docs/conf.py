"""Build the pages in docs/ into a static site: `make docs`.

Every warning, such as a dead link, fails the build. So does a page that would load a script, a
style sheet, a font or an image from another host: the site must work where the internet cannot be
reached, and nobody else should learn who reads it.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

project = "Image gateway"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
# A link may name a heading of a page, such as runbook.md#gatewaystoreerrors.
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = project
html_use_index = False
html_copy_source = False
html_show_copyright = False


class Loads(HTMLParser):
    """Collect the addresses that a browser loads when it shows a page. Links are not loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {"src", "srcset", "data", "poster"} | ({"href"} if tag == "link" else set())
        self.addresses += [value for name, value in attrs if name in names and value]


def loads_from_elsewhere(text: str, *, css: bool = False) -> Iterator[str]:
    """Yield each address on another host that this page or style sheet loads."""
    if css:
        addresses = re.findall(r"""(?:url\(\s*|@import\s+)["']?([^"')\s]+)""", text)
    else:
        page = Loads()
        page.feed(text)
        addresses = page.addresses
    return (address for address in addresses if re.match(r"(?i)(https?:)?//", address))


def refuse_loads_from_elsewhere(app: Sphinx, failure: Exception | None) -> None:
    """Fail the build if any page or style sheet loads something from another host."""
    files = [] if failure else sorted(Path(app.outdir).rglob("*.*"))
    faults = [
        f"{file} loads {address}"
        for file in files
        if file.suffix in (".html", ".css")
        for address in loads_from_elsewhere(file.read_text("utf-8"), css=file.suffix == ".css")
    ]
    if faults:
        raise ExtensionError("\n".join(faults))


def setup(app: Sphinx) -> None:
    app.connect("build-finished", refuse_loads_from_elsewhere)
