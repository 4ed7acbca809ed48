"""The style of every YAML file."""

from tests.support.tools import DEPLOY, ROOT, passes

FILES = sorted(
    str(file.relative_to(ROOT))
    for folder in (DEPLOY, ROOT / ".github")
    for pattern in ("*.yaml", "*.yml")
    for file in folder.rglob(pattern)
)


def test_they_pass_yamllint() -> None:
    passes("yamllint", "--strict", *FILES)
