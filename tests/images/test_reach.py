"""Which URLs may be fetched, and which addresses count as public, in all their spellings."""

import pytest
from yarl import URL

from gateway.images.reach import MAX_URL_CHARS, is_public, may_be_anywhere, origin_of, read_url

PUBLIC = (
    *("1.1.1.1", "93.184.215.14", "192.0.1.1", "100.63.255.255", "172.32.0.1"),
    *("2606:4700:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1", "64:ff9b::101:101"),
)

NOT_PUBLIC = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1"),
    *("172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255"),
    *("192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::ffff:0:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::101:101", "2002:7f00:1::"),
    *("2002:101:101::", "2001::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1"),
    *("fe80::1", "fe80::1%lo", "2606:4700::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254"),
    *("ff02::1", "ff0e::1", "", "localhost", "2130706433", "0x7f000001", "127.1", "0177.0.0.1"),
    *("127.0.0.1 ", "1.1.1.1\n", "1.1.1.1/32", "①.①.①.①", "[::1]"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_any_other_address(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "/picture.png",
            "//host/picture.png",
            "picture.png",
            "https:",
            "https://",
            "https:///p",
        ),
        *("ftp://host/p", "file:///etc/passwd", "data:image/png;base64,iVBOR", "javascript:0"),
        *("https://user@host/p", "https://user:password@host/p", "https://@host/p"),
        *("https://host:0/p", "https://host:65536/p", "https://host:x/p", "https://host\\@other/p"),
        *("https://ho st/p", "https://host/p\r\nX: y", "https://host/p q", "https://host/\x00"),
        *(
            "https://höst/p",
            "https://host/ä",
            "https://ho%73t/p",
            "https://ho$t/p",
            " https://host",
        ),
        *("https://[fe80::1%25lo]/p", "https://[fe80::1%lo]/p", "https://[::1/p", "https://[x]/p"),
        "https://host/" + "p" * MAX_URL_CHARS,
    ],
)
def test_no_url_to_fetch(text: str) -> None:
    assert read_url(text) is None


def test_a_url_is_sent_as_it_was_written() -> None:
    text = "https://host/a%2Fb%7e?sig=%2b+%2F%3D&x=a%20b"
    url = read_url(text)
    assert str(url) == text


BASE = "http://Upstream:8081"


@pytest.mark.parametrize(
    ("url", "anywhere"),
    [
        *(("http://upstream:8081/p", True), ("HTTP://UPSTREAM:8081/p", True)),
        *(("http://upstream/p", False), ("https://upstream:8081/p", False)),
        *(("http://upstream.:8081/p", False), ("http://upstream:18081/p", False)),
        *(("https://pictures.test/p", True), ("https://PICTURES.test:8443/p", True)),
        *(("http://pictures.test/p", False), ("https://a.pictures.test/p", False)),
        *(("https://[fd00::1]/p", True), ("https://[fd00::2]/p", False)),
    ],
)
def test_what_may_come_from_any_address(url: str, anywhere: bool) -> None:
    origin = origin_of(URL(url, encoded=True))
    assert origin is not None
    assert may_be_anywhere(origin, BASE, ["Pictures.TEST", "fd00::1"]) is anywhere


def test_the_default_port_is_the_same_origin() -> None:
    origin = origin_of(URL("https://upstream:443/p", encoded=True))
    assert origin is not None
    assert may_be_anywhere(origin, "https://upstream", [])
