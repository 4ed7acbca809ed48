"""docs/purchases.md: its table of failures is true, and its example is what a client gets."""

import re

import msgspec
import pytest

from gateway.config.settings import UpstreamSettings
from gateway.core import upstream_errors
from gateway.core.upstream_errors import UpstreamError
from gateway.proxy.leases import encode_message
from gateway.proxy.operations import repeated_error
from gateway.quota.operations import Operation, Repeat
from gateway.upstream.outcome import judge, without_picture
from gateway.upstream.port import Reply
from gateway.web.responses import error_body
from tests.support.documents import PAGES, blocks
from tests.support.tools import ROOT

PAGE = PAGES[ROOT / "docs" / "purchases.md"]
UPSTREAM = UpstreamSettings()


def refusal(code: str) -> bytes:
    return msgspec.json.encode({"error": {"message": "No.", "code": code}})


def judged(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        judge(Reply(status, headers or {}, body), UPSTREAM, 0)
    return caught.value


BLOCKED, UNPAID = refusal(UPSTREAM.content_codes[0]), refusal(UPSTREAM.account_codes[0])
CASES = {
    "because of its content": judged(403, BLOCKED),
    "named a wait": judged(503, headers={"retry-after": "7"}),
    "with a code in `content_codes`": without_picture(Reply(200, {}, BLOCKED), UPSTREAM),
    "with a code in `account_codes`": without_picture(Reply(200, {}, UNPAID), UPSTREAM),
    "out of credit": judged(429, UNPAID),
    "could not be reached": upstream_errors.UpstreamUnreachable(),
    "was cut": upstream_errors.UpstreamCut(),
    "did not answer": upstream_errors.UpstreamTimeout(),
    "was not JSON": without_picture(Reply(200, {}, b"?"), UPSTREAM),
}
"""Failures that a status alone does not tell apart, by words of their rows."""


def failures(case: str) -> list[UpstreamError]:
    """Return the errors of a row: by its words, else of each status in brackets."""
    if found := [error for words, error in CASES.items() if words in case]:
        return found
    (brackets,) = re.findall(r"\((.*)\)", case)
    return [judged(int(status)) for status in re.findall(r"\b[3-5][0-9]{2}\b", brackets)]


def test_the_table_has_the_truth_about_each_failure() -> None:
    section = PAGE.partition("\n## What the client gets\n")[2].partition("\n##")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    tested = set[str]()
    for case, answer, charge, again in rows[1:]:
        errors = failures(case)
        assert errors, case
        for error in errors:
            tested.add(error.outcome)
            assert (charge, again == "not at once") == (
                ("unknown", True) if error.charged else ("none", False)
            ), case
            if isinstance(error, upstream_errors.UpstreamRefused):
                assert answer == "its own status and code"
                continue
            assert answer.startswith(f"{error.status} `{error.code}`"), case
            assert ("`x-should-retry: false`" in answer) is not error.retry, case
    assert tested == {
        each.outcome
        for each in vars(upstream_errors).values()
        if isinstance(each, type) and issubclass(each, UpstreamError)
    }


def test_a_refused_repeat_looks_as_shown() -> None:
    (shown,) = blocks("json", PAGE)
    operation = Operation(
        id="1",
        request="4bf92f3577b34da6a3ce929d0e0e4736",
        gateway="a",
        at=1_793_534_000.0,
        lease=1_793_535_000.0,
        state="unknown",
        ended=1_793_534_400.0,
        failure=encode_message(upstream_errors.UpstreamTimeout()),
    )
    error = repeated_error(Repeat(operation, 42.0), "")
    assert msgspec.json.decode(shown) == msgspec.json.decode(error_body(error))
