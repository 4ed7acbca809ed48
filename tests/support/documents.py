"""The documentation: the README and the pages under docs/ and deploy/."""

import re

from tests.support.tools import ROOT

README = (ROOT / "README.md").read_text()

PAGES = {
    path: path.read_text()
    for folder in (ROOT / "docs", ROOT / "deploy")
    for path in sorted(folder.rglob("*.md"))
}
"""The text of each page but the README."""

WHOLE = "\n".join([README, *PAGES.values()])

_COMMAND = re.compile(r"(?:^|[ /])gateway ([a-z].*)")
_END_OF_COMMAND = re.compile(r"\s+(?:#|>|\||<|- <).*|\)$")


def blocks(language: str, text: str = README) -> list[str]:
    """Return the content of each fenced block of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def shell_lines(text: str) -> list[str]:
    """Return the lines of all shell blocks, in their order."""
    return [line for block in blocks("sh", text) for line in block.splitlines()]


def gateway_arguments(line: str) -> str | None:
    """Return the arguments of the gateway command in this line, None if there is none.

    Comments, pipes and redirections are cut off.
    """
    found = _COMMAND.search(line)
    return found and _END_OF_COMMAND.sub("", found[1])
