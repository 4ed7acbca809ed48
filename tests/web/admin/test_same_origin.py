"""Which requests may use a session's cookie."""

import pytest
from multidict import CIMultiDict

from gateway.web.admin.same_origin import HEADER, is_from_elsewhere, is_https, may_use_cookie

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
