"""The types that several options share, and checks that a type cannot express."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from gateway.config.options import InvalidValue
from gateway.config.store_url import StoreUrl, parse_store_url
from gateway.core.secret import Secret

DAY = 86_400
PEPPER_BYTES = 16
"""The minimum length of a pepper."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The name of a team, a webhook or an admin token."""
NAME_RULE = "must have 1 to 64 letters, digits and . _ -, and start with a letter or digit"

Bytes = Annotated[int, Meta(ge=1, le=2**40)]
Seconds = Annotated[float, Meta(gt=0, le=DAY)]
LongSeconds = Annotated[float, Meta(gt=0, le=10 * 365 * DAY)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Count = Annotated[int, Meta(ge=0, le=10**12)]
Host = Annotated[
    str, Meta(pattern=r"\A[A-Za-z0-9._:%-]{1,255}\Z", description="a host name or an IP address")
]
MaybeFile = Annotated[
    str, Meta(pattern=r"\A[^\x00-\x1f\x7f]*\Z", description='a path, or "" for none')
]
File = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f]+\Z", description="the path of a file")]


def check_base_url(text: str) -> str:
    """Return the URL without trailing slashes. Raises ValueError if it cannot be called."""
    if not text:
        return text
    parts = urlsplit(text)
    wrong = (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or any(len(label) > 63 for label in parts.hostname.split("."))  # RFC 1035, section 2.3.4
        or parts.port == 0
        or any(mark in text for mark in "@?#\\%")
        or not text.isprintable()
        or any(character.isspace() for character in text)
    )
    if wrong:
        raise ValueError("not a base URL")
    return text.rstrip("/")


def check_api_key(secret: Secret) -> Secret:
    """Check that an HTTP header can carry the key."""
    text = secret.reveal()
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("not a header value")
    return secret


def check_pepper(secret: Secret) -> Secret:
    """Check the length of a pepper."""
    if len(secret.reveal().encode()) < PEPPER_BYTES:
        raise ValueError("too short")
    return secret


def check_store_url(text: str) -> str:
    """Check the URL of a store."""
    _parsed(text)
    return text


def check_cache_url(text: str) -> str:
    """Check the URL of a shared cache, or "" for none."""
    if text and _parsed(text).kind == "sqlite":
        raise InvalidValue("the URL names a file, but a shared cache needs Redis")
    return text


def _parsed(text: str) -> StoreUrl:
    try:
        return parse_store_url(text)
    except ValueError as error:
        raise InvalidValue(str(error)) from None


def without_password(text: str) -> str:
    """Return the URL without user and password; "" stays."""
    return parse_store_url(text).shown if text else ""


def refuse_password(text: str) -> None:
    """Refuse a URL with a password, which must not be in a file."""
    if text and parse_store_url(text).password is not None:
        raise ValueError("holds a password, which must not be in a file")
