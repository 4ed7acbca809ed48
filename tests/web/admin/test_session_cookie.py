"""The session cookie: its token, its end, forged or broken values, and who may use it."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from multidict import CIMultiDict

from gateway.config.admin_tokens import AdminToken, digest
from gateway.web.admin.session_cookie import (
    HEADER,
    IDLE_SECONDS,
    LONGEST_SECONDS,
    SKEW_SECONDS,
    Session,
    Visit,
    cookie_path,
    is_from_elsewhere,
    is_https,
    may_use_cookie,
    read_session,
    write_session,
)

PEPPER = b"pepper-of-a-gateway"
TOKEN = AdminToken(name="ops", role="admin", digest=digest("gw-admin-of-ops"))
OTHER = AdminToken(name="eyes", role="viewer", digest=digest("gw-admin-of-eyes"))
BEGAN = 1_800_000_000.0
SESSION = Session(token="ops", id="ab" * 16, began=BEGAN, seen=BEGAN, secure=False)
COOKIE = write_session(SESSION, TOKEN, PEPPER)


def read(cookie: str, now: float = BEGAN, pepper: bytes = PEPPER) -> Session | None:
    found = read_session(cookie, [OTHER, TOKEN], pepper, now)
    return None if found is None else found.session


def test_the_value_fits_a_cookie_and_holds_nothing_of_the_token() -> None:
    assert all(character.isalnum() or character in "-_." for character in COOKIE)
    assert TOKEN.digest.hex() not in COOKIE
    assert base64.urlsafe_b64encode(TOKEN.digest).decode().rstrip("=") not in COOKIE


@pytest.mark.parametrize(
    ("seen", "ends"),
    [(0, IDLE_SECONDS), (LONGEST_SECONDS - 60, LONGEST_SECONDS)],
    ids=["idle", "longest"],
)
def test_a_session_ends_after_an_idle_hour_and_after_twelve_hours(seen: int, ends: int) -> None:
    cookie = write_session(replace(SESSION, seen=BEGAN + seen), TOKEN, PEPPER)
    assert read(cookie, BEGAN + ends - 1) is not None
    assert read(cookie, BEGAN + ends) is None
    assert read(cookie, BEGAN - SKEW_SECONDS) is not None  # by another gateway's clock
    assert read(cookie, BEGAN - SKEW_SECONDS - 1) is None


def test_a_changed_token_or_pepper_or_a_removed_token_ends_a_session() -> None:
    assert read(COOKIE, pepper=b"another-pepper-of-a-gateway") is None
    changed = replace(TOKEN, digest=digest("gw-admin-of-ops-2"))
    assert read_session(COOKIE, [changed], PEPPER, BEGAN) is None
    assert read_session(COOKIE, [OTHER], PEPPER, BEGAN) is None
    assert read_session(COOKIE, [], PEPPER, BEGAN) is None


def test_a_session_is_read_with_its_token_in_its_current_role() -> None:
    assert read_session(COOKIE, [OTHER, TOKEN], PEPPER, BEGAN) == Visit(SESSION, TOKEN)
    viewer = replace(TOKEN, role="viewer")
    assert read_session(COOKIE, [viewer], PEPPER, BEGAN) == Visit(SESSION, viewer)


def test_the_signature_of_another_token_is_refused() -> None:
    said, _, signature = write_session(SESSION, OTHER, PEPPER).partition(".")
    assert read(f"{said}.{signature}") is None


def test_the_digest_of_a_token_alone_cannot_sign() -> None:
    said = COOKIE.partition(".")[0]
    forged = hmac.digest(TOKEN.digest, said.encode(), hashlib.sha256)
    assert read(f"{said}.{base64.urlsafe_b64encode(forged).decode().rstrip('=')}") is None


@pytest.mark.parametrize(
    "cookie",
    ["", ".", "x", "x.y", "é.y", COOKIE[:-1], COOKIE + "A", "A" * 100_000, COOKIE.split(".")[0]],
    ids=["empty", "dot", "word", "two", "accent", "cut", "longer", "huge", "unsigned"],
)
def test_a_broken_cookie_is_refused(cookie: str) -> None:
    assert read(cookie) is None


@given(st.integers(0, len(COOKIE) - 1), st.characters(codec="ascii"))
def test_every_changed_character_is_noticed(position: int, character: str) -> None:
    changed = COOKIE[:position] + character + COOKIE[position + 1 :]
    assert (read(changed) is not None) == (changed == COOKIE)


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert read(text) is None


# -- the origin of a request --------------------------------------------------------------------

HOST = "gw.example.com:9090"
OWN = f"http://{HOST}"


def headers(host: str = HOST, **more: str) -> CIMultiDict[str]:
    """Header lines; `_` in a name stands for `-`."""
    return CIMultiDict({"Host": host, **{name.replace("_", "-"): more[name] for name in more}})


def marked(host: str = HOST, **more: str) -> CIMultiDict[str]:
    found = headers(host, **more)
    found[HEADER] = "1"
    return found


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_change_needs_the_same_origin_and_the_header(method: str) -> None:
    assert may_use_cookie(method, marked(Sec_Fetch_Site="same-origin"))
    assert may_use_cookie(method, marked(Origin=OWN))
    assert not may_use_cookie(method, headers(Sec_Fetch_Site="same-origin", Origin=OWN))
    assert not may_use_cookie(method, marked())
    assert not may_use_cookie(method, marked(Sec_Fetch_Site="none"))
    assert not may_use_cookie(method, marked(Sec_Fetch_Site="none", Origin=OWN))


@pytest.mark.parametrize("site", ["same-site", "cross-site", "", "anything"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_site_is_refused_with_any_origin(method: str, site: str) -> None:
    assert not may_use_cookie(method, marked(Sec_Fetch_Site=site, Origin=OWN))


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://gw.example.com",
        "http://gw.example.com:8080",
        "http://evil.example.com:9090",
        "http://gw.example.com.evil.com:9090",
        "http://gw.example.com:9090@evil.com",
        "http://gw.example.com:x",
        "",
    ],
    ids=["null", "no port", "other port", "other name", "longer", "user", "no number", "empty"],
)
def test_another_origin_is_refused(origin: str) -> None:
    assert is_from_elsewhere(headers(Origin=origin))
    assert not may_use_cookie("POST", marked(Origin=origin))
    assert not may_use_cookie("GET", marked(Origin=origin))


@pytest.mark.parametrize("origin", ["https://gw.example.com", "https://gw.example.com:443"])
def test_the_origin_of_the_public_url_is_an_own_one(origin: str) -> None:
    behind = marked("127.0.0.1:9090", Origin=origin)
    assert is_from_elsewhere(behind)
    assert not is_from_elsewhere(behind, "https://gw.example.com/gw")
    assert may_use_cookie("POST", behind, "https://gw.example.com/gw")
    for url in ("http://gw.example.com", "https://gw.example.com:8443", "https://example.com", ""):
        assert is_from_elsewhere(behind, url)
    assert not is_from_elsewhere(headers(Origin=OWN), "https://gw.example.com/gw")


@pytest.mark.parametrize("path", ["/", "/gw/", "/a/b-c/%C3%A4/"])
def test_the_cookie_is_for_the_path_of_the_dashboard(path: str) -> None:
    assert cookie_path(CIMultiDict({HEADER: path})) == path


@pytest.mark.parametrize("path", ["1", "", "/gw", "gw/", "/a;b/", "/a b/", "//", "/\n/", "/é/"])
def test_any_other_path_stands_for_all(path: str) -> None:
    assert cookie_path(CIMultiDict({HEADER: path})) == "/"
    assert cookie_path(CIMultiDict({HEADER: f"/{'a' * 200}/"})) == "/"
    assert cookie_path(CIMultiDict()) == "/"


def test_typed_addresses_and_programs_may_read() -> None:
    assert may_use_cookie("GET", headers())
    assert may_use_cookie("GET", headers(Sec_Fetch_Site="none"))
    assert may_use_cookie("HEAD", headers(Sec_Fetch_Site="same-origin"))


@pytest.mark.parametrize("host", ["gw.example.com", "gw.example.com:443", "gw.example.com:80"])
def test_behind_tls_the_port_of_the_scheme_may_be_left_out(host: str) -> None:
    assert not is_from_elsewhere(headers(host, Origin="https://gw.example.com"))


def test_https_is_read_from_the_origin() -> None:
    assert is_https(headers(Origin="https://gw.example.com"))
    assert not is_https(headers(Origin=OWN))
    assert not is_https(headers())
