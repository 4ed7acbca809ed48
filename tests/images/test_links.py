"""Links work for the picture and the time that they were made for, and only with this pepper."""

from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.images.links import Links

LINKS = Links(b"pepper" * 8)
NAME = "a" * 64 + ".png"


def parts(link: str) -> tuple[str, str, str]:
    path, query = urlsplit(link).path, parse_qs(urlsplit(link).query)
    return path.rpartition("/")[2], query["exp"][0], query["sig"][0]


def test_a_link_says_when_it_ends() -> None:
    link = LINKS.link("https://gateway.example", NAME, 1_234.9)
    assert link.startswith(f"https://gateway.example/v1/images/files/{NAME}?exp=1234&sig=")
    assert LINKS.end(*parts(link)) == 1_234.0


@pytest.mark.parametrize(
    ("name", "exp", "sig"),
    [
        ("b" * 64 + ".png", None, None),
        (NAME.replace("png", "jpg"), None, None),
        (None, "1235", None),
        (None, "01234", None),
        (None, "1234.0", None),
        (None, "", None),
        (None, None, ""),
        (None, None, "0" * 64),
        (None, None, "ä" * 64),
    ],
)
def test_nothing_in_a_link_can_be_changed(
    name: str | None, exp: str | None, sig: str | None
) -> None:
    own_name, own_exp, own_sig = parts(LINKS.link("", NAME, 1_234))
    changed = (
        own_name if name is None else name,
        own_exp if exp is None else exp,
        own_sig if sig is None else sig,
    )
    assert LINKS.end(*changed) is None


def test_another_store_has_other_links() -> None:
    assert Links(b"other" * 8).end(*parts(LINKS.link("", NAME, 1_234))) is None
