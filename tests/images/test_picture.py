"""Kinds and names of pictures."""

from hashlib import sha256

import pytest

from gateway.images.picture import MIME, digest_of, is_name, kind_of, name_of
from gateway.upstream.sandbox.png import draw

PNG = draw(bytes(32), 16, 16)
DIGEST = sha256(PNG).hexdigest()
HEADS = {
    "png": PNG,
    "jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    "webp": b"RIFF\x24\x00\x00\x00WEBPVP8 ",
}


def test_the_first_bytes_say_the_kind() -> None:
    assert {kind: kind_of(data) for kind, data in HEADS.items()} == {kind: kind for kind in MIME}


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PNG", b"\xff\xd8", b"RIFF\0\0\0\0WAVEfmt ", b"<html>", b"GIF89a", b" " + PNG],
)
def test_other_bytes_have_no_kind_and_no_name(data: bytes) -> None:
    assert kind_of(data) is None
    assert name_of(data) is None


def test_a_name_is_the_hash_and_the_kind() -> None:
    name = name_of(PNG)
    assert name == f"{DIGEST}.png"
    assert is_name(name)
    assert digest_of(name) == DIGEST


@pytest.mark.parametrize(
    "text",
    [
        *("", DIGEST, f"{DIGEST}.gif", f"{DIGEST}.png/", f"../{DIGEST}.png", f"{DIGEST}.png\n"),
        *(f"{DIGEST.upper()}.png", f"{DIGEST[1:]}.png", f"{DIGEST}x.png", f"{DIGEST}.png.png"),
    ],
)
def test_no_other_text_is_a_name(text: str) -> None:
    assert not is_name(text)
