"""The documentation's site loads nothing from another host, and its lists are complete."""

import importlib.util
import re

import pytest

from gateway.core import errors
from gateway.telemetry.metrics import OUTCOMES, UNREADABLE
from tests.support.documents import PAGES
from tests.support.tools import ROOT

SPEC = importlib.util.spec_from_file_location("docs_conf", ROOT / "docs" / "conf.py")
assert SPEC is not None
assert SPEC.loader is not None
CONF = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(CONF)


@pytest.mark.parametrize(
    ("page", "loads"),
    [
        ('<script src="https://a.example/x.js"></script>', ["https://a.example/x.js"]),
        ("<img src=//a.example/x.png>", ["//a.example/x.png"]),
        ('<link rel="icon" href="HTTP://a.example/x.ico">', ["HTTP://a.example/x.ico"]),
        ('<a href="https://a.example/">a link is not loaded</a>', []),
        ('<img src="_images/overview.png"><link href="_static/furo.css">', []),
    ],
)
def test_it_finds_what_a_page_loads_from_another_host(page: str, loads: list[str]) -> None:
    assert list(CONF.loads_from_elsewhere(page)) == loads


@pytest.mark.parametrize(
    ("sheet", "loads"),
    [
        ('@import "https://a.example/x.css";', ["https://a.example/x.css"]),
        ("a { src: url( 'https://a.example/x.woff2') }", ["https://a.example/x.woff2"]),
        ("a { background: url(data:image/png;base64,AA) }", []),
        ("a { background: url(x.svg) }", []),
    ],
)
def test_it_finds_what_a_style_sheet_loads_from_another_host(sheet: str, loads: list[str]) -> None:
    assert list(CONF.loads_from_elsewhere(sheet, css=True)) == loads


def test_the_glossary_has_every_outcome() -> None:
    section = PAGES[ROOT / "docs" / "glossary.md"].partition("\n## Outcomes\n")[2]
    rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    named = re.findall(r"`([a-z_]+)`", " ".join(rows[1:]))
    assert sorted(named) == sorted({*OUTCOMES, *UNREADABLE})


def test_the_pages_about_errors_have_every_code() -> None:
    pages = PAGES[ROOT / "docs" / "errors.md"] + PAGES[ROOT / "docs" / "admin-api.md"]
    codes = {
        each.code
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.GatewayError)
    }
    codes.remove("invalid_request")  # the base class's: each cause has a code of its own
    assert {code for code in codes if f"`{code}`" not in pages} == set()


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("configuration.md", "configuration kept"),
        ("configuration.md", "needs a restart"),
        ("configuration.md", "upstream key kept"),
        ("runbook.md", "swept, charged as unknown"),
        ("runbook.md", "the store went back"),
    ],
)
def test_a_log_message_that_a_page_quotes_is_logged(page: str, message: str) -> None:
    assert message in PAGES[ROOT / "docs" / page]
    sources = (file.read_text() for file in (ROOT / "gateway").rglob("*.py"))
    assert any(f'"{message}' in source for source in sources)
