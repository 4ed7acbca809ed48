"""Each row of the error table: the error, its cost, and the body for the caller."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.settings import UpstreamSettings
from gateway.core.secret import Secret
from gateway.core.upstream_errors import (
    UpstreamAccountExhausted,
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamUnknown,
)
from gateway.upstream.outcome import MAX_REFUSAL_BYTES, NO_REASON, judge, without_picture
from gateway.upstream.port import Reply

NOW = 1_777_636_800.0
KEY = "sk-upstream-CANARY0123456789"
OTHER_KEY = 'qu"ote\\CANARY'
REFUSAL = {
    "error": {
        "message": "Your request was rejected by the safety system.",
        "type": "image_generation_user_error",
        "param": None,
        "code": "moderation_blocked",
    }
}


def settings(key: str = KEY, **fields: Any) -> UpstreamSettings:
    return UpstreamSettings(api_key=Secret(key), **fields)


def verdict(
    status: int, body: bytes = b"{}", key: str = KEY, /, **headers: str | None
) -> UpstreamError:
    """The error of a reply. `headers` have underscores for hyphens."""
    given = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    with pytest.raises(UpstreamError) as caught:
        judge(Reply(status, given, body), settings(key), NOW)
    return caught.value


def refused(body: bytes, status: int = 400, key: str = KEY) -> Any:
    """The body that a caller reads, parsed."""
    error = verdict(status, body, key)
    assert isinstance(error, UpstreamRefused)
    return json.loads(error.body)


def coded(code: str, message: str = "No.", **fields: str) -> bytes:
    return json.dumps({"error": {"message": message, "code": code, **fields}}).encode()


def test_a_success_passes() -> None:
    judge(Reply(200, {}, b"whatever"), settings(), NOW)


@pytest.mark.parametrize(
    ("statuses", "kind", "charged", "retry"),
    [
        ([400, 403, 404, 422, 429], UpstreamRefused, False, True),
        ([401], UpstreamAuth, False, False),
        ([402], UpstreamAccountExhausted, False, False),
        ([500, 503], UpstreamFailed, False, True),
        ([300, 301, 302, 304, 307, 308, 399], UpstreamFailed, False, False),
        ([405, 407, 409, 410, 413, 415, 418, 425, 431, 451, 499], UpstreamFailed, False, False),
        ([408, 502, 504, *range(520, 528)], UpstreamUnknown, True, False),
        ([501, 505, 507, 511, 529, 530, 598, 599], UpstreamUnknown, True, False),
        ([201, 202, 204, 206, 226, 299], UpstreamUnknown, True, False),
        ([0, 99, 100, 101, 103, 199, 600, 999], UpstreamUnknown, True, False),
    ],
)
def test_the_error_table(
    statuses: list[int], kind: type[UpstreamError], charged: bool, retry: bool
) -> None:
    for status in statuses:
        error = verdict(status, json.dumps(REFUSAL).encode())
        assert type(error) is kind
        assert (error.charged, error.retry, error.upstream_status) == (charged, retry, status)
        assert error.reason == REFUSAL["error"]["message"]
        if kind is not UpstreamRefused:
            assert error.message.endswith(f" The upstream answered {status}: {error.reason}")


# -- whose fault it is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        coded("content_policy_violation"),
        coded("ContentFilter"),
        coded("forbidden", "It violates our content policy."),
        coded("forbidden", "Blocked by the Safety system."),
        coded("forbidden", type="moderation_blocked"),
        b'{"error":"content_policy_violation"}',
        b'{"detail":"Rejected: safety"}',
        b"Blocked for safety.",
    ],
)
def test_a_403_about_content_is_the_requests_refusal(body: bytes) -> None:
    assert refused(body, 403)["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        coded("forbidden", "Your organization must be verified."),
        coded("forbidden", "The parameter safety_identifier is unsafety."),
        b"<html><title>403 Forbidden</title></html>",
        b'{"error":{"code":5}}',
    ],
)
def test_any_other_403_concerns_the_gateways_key(body: bytes) -> None:
    assert isinstance(verdict(403, body), UpstreamAuth)


def test_the_codes_about_content_can_be_configured() -> None:
    chosen = settings(content_codes=("blocked",))
    for code, kind in (("blocked", UpstreamRefused), ("safety", UpstreamAuth)):
        with pytest.raises(kind):
            judge(Reply(403, {}, coded(code)), chosen, NOW)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 503])
@pytest.mark.parametrize(
    "body",
    [
        coded("insufficient_quota"),
        coded("rejected", type="insufficient_quota"),
        coded("billing_hard_limit_reached", type="image_generation_user_error"),
        coded("billing_not_active"),
        coded("account_deactivated"),
        b'{"error":{"code":"QuotaExceeded"}}',
        b'{"detail":[{"type":"insufficient-credits"}]}',
        b'{"error":"payment_required","message":"Pay."}',
    ],
)
def test_an_account_without_credit_is_the_operators_business(status: int, body: bytes) -> None:
    error = verdict(status, body, retry_after="7")
    assert isinstance(error, UpstreamAccountExhausted)
    assert (error.status, error.charged) == (503, False)
    assert error.headers == {"x-should-retry": "false"}


def test_only_a_code_says_that_the_account_has_no_credit() -> None:
    body = coded("rate_limit_exceeded", "insufficient_quota: you exceeded your current quota")
    assert isinstance(verdict(429, body), UpstreamRefused)
    assert isinstance(verdict(500, coded("insufficient_quota")), UpstreamFailed)
    with pytest.raises(UpstreamRefused):
        judge(Reply(429, {}, coded("insufficient_quota")), settings(account_codes=()), NOW)


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (coded("moderation_blocked"), UpstreamFailed, "No."),
        (b'{"data":[{"error":{"code":"safety","message":"No."}}]}', UpstreamFailed, "No."),
        (coded("insufficient_quota"), UpstreamAccountExhausted, "No."),
        (coded("server_error", "Rejected by the safety system."), UpstreamUnknown, None),
        (b'{"created":0,"data":[]}', UpstreamUnknown, "the response is no JSON with a picture"),
        (b"<html><title>All is well</title>", UpstreamUnknown, "All is well"),
    ],
)
def test_an_error_with_status_200_is_free_only_if_its_code_says_so(
    body: bytes, kind: type[UpstreamError], reason: str | None
) -> None:
    error = without_picture(Reply(200, {}, body), settings())
    assert type(error) is kind
    assert (error.status, error.retry, error.upstream_status) == (502, False, 200)
    assert error.charged is (kind is UpstreamUnknown)
    if reason is not None:
        assert error.reason == reason


# -- waits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "sent"),
    [
        (429, {"retry_after": "7"}, ("7", "7000")),
        (429, {"retry_after": "3600"}, ("59", "59000")),
        (429, {"retry_after": "1.2"}, ("2", "1200")),
        (429, {"retry_after_ms": "1500"}, ("2", "1500")),
        (429, {"retry_after": "soon"}, None),
        (429, {}, None),
        (503, {"retry_after": "Fri, 01 May 2026 12:00:30 GMT"}, ("30", "30000")),
        (503, {"retry_after_ms": "5"}, ("1", "1000")),
        (503, {}, None),
        (500, {"retry_after": "7"}, None),
        (400, {"retry_after": "7"}, None),
    ],
)
def test_the_upstreams_wait_reaches_the_client(
    status: int, headers: dict[str, str], sent: tuple[str, str] | None
) -> None:
    error = verdict(status, b"{}", **headers)
    expected = (
        {} if sent is None else dict(zip(("Retry-After", "retry-after-ms"), sent, strict=True))
    )
    assert error.headers == expected
    if status in (500, 503):
        assert (error.status, error.code) == (502 if sent is None else 503, "upstream_failed")


# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b"", NO_REASON, "upstream_refused"),
        (b"{}", NO_REASON, "upstream_refused"),
        (b"<html><title>400 Bad Request</title></html>", "400 Bad Request", "upstream_refused"),
        (b'{"error":"Too wide."}', "Too wide.", "upstream_refused"),
        (b'{"code":"bad_size","message":"Too wide."}', "Too wide.", "bad_size"),
        (b'{"error":{"message":["Too wide.","No."]}}', "Too wide.; No.", "upstream_refused"),
        (b'{"error":{"message":"Too wide.","x":1e999}}', "Too wide.", "upstream_refused"),
        (b'{"error":{"message":"Too wide.","x":NaN}}', "Too wide.", "upstream_refused"),
        (b'{"error":{"message":"Too \\ud800wide."}}', "Too wide.", "upstream_refused"),
        (b'{"error":{"message":"x","y":' + b"[" * 8_000 + b"]" * 8_000 + b"}}", None, None),
    ],
)
def test_a_refusal_of_another_shape_gets_openais(
    body: bytes, message: str | None, code: str | None
) -> None:
    error = refused(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    if message:
        assert (error["message"], error["code"]) == (message, code)


def test_a_longer_refusal_keeps_its_reason() -> None:
    body = json.dumps({"error": {"message": "x " * MAX_REFUSAL_BYTES, "code": "long"}}).encode()
    error = refused(body)["error"]
    assert error == {"message": "x " * 249 + "x…", "type": "upstream_error", "param": None} | {
        "code": "long"
    }


def test_a_refusal_of_the_largest_size_is_passed_on() -> None:
    frame = len(b'{"error":{"message":""}}')
    body = {"error": {"message": "." * (MAX_REFUSAL_BYTES - frame)}}
    error = refused(json.dumps(body, separators=(",", ":")).encode())["error"]
    assert error["message"] == body["error"]["message"]


@pytest.mark.parametrize(
    "message",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Incorrect API key provided: {KEY[:16]}****.",
        f"as JSON: {json.dumps({'key': KEY})}",
        f"as a header: Bearer {KEY}",
        "the other one: " + OTHER_KEY,
        "unlike any of ours: sk-proj-CANARYCANARYCANARY",
    ],
)
@pytest.mark.parametrize("escaped", [False, True])
def test_no_secret_gets_through(message: str, escaped: bool) -> None:
    body = {"error": {"message": message, "details": [{message: message}], "code": 5}, "x": message}
    text = json.dumps(body)
    if escaped:
        text = text.replace("CANARY", "".join(f"\\u{ord(letter):04x}" for letter in "CANARY"))
    read = refused(text.encode(), key=OTHER_KEY if OTHER_KEY in message else KEY)
    assert "CANARY" not in json.dumps(read)
    assert "[redacted]" in read["error"]["message"]
    assert read["error"]["code"] == 5


# Values too short to share 8 bytes with a secret, or to look like a key.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=3))
def test_a_refusal_without_secrets_is_passed_on_with_equal_values(fields: dict[str, Any]) -> None:
    body = {**fields, "error": {"message": "No.", **fields}}
    read = refused(json.dumps(body).encode())
    assert read == {**body, "error": {**read["error"], **body["error"]}}
    assert read["error"].keys() >= {"message", "type", "param", "code"}


@given(st.binary(max_size=40))
def test_junk_is_always_answered_with_an_error_object(junk: bytes) -> None:
    for body in (junk, b'{"error":{"message":"' + junk + b'"}}', b'{"error":{"x":' + junk + b"}}"):
        assert isinstance(refused(body)["error"], dict)
