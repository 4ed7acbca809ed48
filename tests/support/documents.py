"""What the project tells its users: the README and the pages under docs/ and deploy/."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

README = (ROOT / "README.md").read_text()

PAGES = {
    path: path.read_text()
    for folder in (ROOT / "docs", ROOT / "deploy")
    for path in sorted(folder.rglob("*.md"))
}
"""The text of each further page."""

WHOLE = "\n".join([README, *PAGES.values()])


def blocks(language: str, text: str = README) -> list[str]:
    """What stands between fences that begin with this word."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> list[str]:
    """The lines of shell blocks that run the gateway, in their order."""
    lines = [line for block in blocks("sh", text) for line in block.splitlines()]
    return [line for line in lines if ".venv/bin/gateway " in line]
