"""The [alerts.webhooks.NAME] of gateway.toml: whom the gateway tells, of what, and where.

The URL of a webhook is a secret, as whoever knows it can write there; so is what messages are
signed with. Neither stands in the file: an option names the environment's variable that holds it,
or a file that does. What is in a file is read by `gateway.reporting.alerts.http`.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Collection, Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from gateway.config.options import options_of, read_table
from gateway.core.faults import Faults
from gateway.core.money import MICRO, dollars
from gateway.core.secret import Secret

Kind = Literal["json", "slack"]

LONGEST_URL = 2_000
SECRET_PREFIX = "whsec_"  # noqa: S105 - how a secret begins
SECRET_BYTES = (24, 64)
"""The fewest and the most bytes of a secret, by the convention of Standard Webhooks."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MASK = "***"


def check_url(text: str) -> str:
    """The URL of a webhook. Raises ValueError, whose text has nothing of it."""
    try:
        parts = urlsplit(text)
        wrong = not parts.hostname or parts.port == 0
    except ValueError:
        raise ValueError("is no http or https URL") from None
    if wrong or parts.scheme not in ("http", "https") or parts.fragment:
        raise ValueError("is no http or https URL")
    if not (text.isascii() and text.isprintable() and " " not in text) or len(text) > LONGEST_URL:
        raise ValueError("is no http or https URL")
    return text


def shown_url(text: str) -> str:
    """What may be told of a webhook's URL: where it leads, not what lets one in there."""
    parts = urlsplit(text)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}/{_MASK}"


def check_secret(text: str) -> bytes:
    """The bytes to sign with. Raises ValueError, whose text has nothing of them."""
    least, most = SECRET_BYTES
    right = f"is not whsec_ and the base64 of {least} to {most} bytes"
    if not text.startswith(SECRET_PREFIX):
        raise ValueError(right)
    try:
        key = b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(right) from None
    if not least <= len(key) <= most:
        raise ValueError(right)
    return key


def _above(value: object) -> int | None:
    """Micro-dollars of an amount; None for "", which is never. Raises ValueError."""
    if value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError("no amount")
    return dollars(value)


Variable = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\Z",
        description="the name of a variable of the environment",
    ),
]
File = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f]+\Z", description="the path of a file")]
Percent = Annotated[int, Meta(ge=1, le=100)]
TeamName = Annotated[
    str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", description="a team's name")
]


class WebhookOptions(Struct, frozen=True, kw_only=True):
    """What stands in an [alerts.webhooks.NAME]. `teams` leaves out all that is not theirs."""

    kind: Kind = "json"
    url_env: Variable | None = None
    url_file: File | None = None
    secret_env: Variable | None = None
    secret_file: File | None = None
    at_percent: tuple[Percent, ...] = (80, 100)
    teams: Annotated[tuple[TeamName, ...], Meta(min_length=1)] | None = None
    unknown_above_usd: Annotated[
        Any,
        Meta(
            description='dollars, 0 or more, with at most six decimals, or "" for never',
            extra={"read": _above},
        ),
    ] = MICRO


class Webhook(WebhookOptions, frozen=True, kw_only=True):
    """A webhook as the gateway knows it. `url` and `secret` are those of the environment, None
    where they stand in files, or where messages are not signed.
    """

    name: str
    url: Secret | None = None
    secret: Secret | None = None

    @property
    def unknown_above(self) -> int | None:
        """Micro-dollars a day; None where it is not told of charges that nobody can tell of."""
        return None if self.teams is not None else self.unknown_above_usd

    @property
    def shown(self) -> str:
        """What may be told of its URL."""
        return shown_url(self.url.reveal()) if self.url else _MASK


class AlertSettings(Struct, frozen=True, kw_only=True):
    """The webhooks that receive alerts, by name."""

    webhooks: Mapping[str, Webhook] = {}


_OPTIONS = options_of(WebhookOptions)
_CHECKS: Mapping[str, Callable[[str], object]] = {"url": check_url, "secret": check_secret}
_SECRETS = tuple(_CHECKS)


def variables_of(table: object) -> Iterator[str]:
    """Yield the environment variables that the webhooks of [alerts.webhooks] name."""
    for webhook in table.values() if isinstance(table, dict) else ():
        if isinstance(webhook, dict):
            named = (webhook.get(f"{name}_env") for name in _SECRETS)
            yield from (name for name in named if isinstance(name, str))


def read_webhooks(
    table: object, environ: Mapping[str, str], faults: Faults, *, serving: bool
) -> dict[str, Webhook]:
    """Return the valid webhooks of [alerts.webhooks] by name.

    Only `serving` needs the environment variables that they name.
    """
    if not isinstance(table, dict):
        faults.add("must be a table")
        return {}
    found = {
        name: _read(name, options, environ, faults.at(name), serving)
        for name, options in table.items()
    }
    return {name: webhook for name, webhook in found.items() if webhook is not None}


def _read(
    name: str,
    table: object,
    environ: Mapping[str, str],
    faults: Faults,
    serving: bool,
) -> Webhook | None:
    before = len(faults)
    if not _NAME.fullmatch(name):
        faults.add(
            "a webhook's name has 1 to 64 letters, digits and . _ - and starts with a letter or "
            "digit"
        )
    written = table if isinstance(table, dict) else {}
    _check_placement(written, faults)
    values = read_table(table, _OPTIONS, faults, tables=_SECRETS)
    _check_consistency(written, faults)
    secrets = dict[str, Any]()
    for option in _SECRETS:
        try:
            secrets[option] = _secret(option, values, environ, serving)
        except ValueError as error:
            faults.add(str(error), f"{option}_env")
    return Webhook(name=name, **values, **secrets) if len(faults) == before else None


def _check_placement(written: Collection[str], faults: Faults) -> None:
    for name in _SECRETS:
        if name in written:
            faults.add(
                f"is a secret: put it into an environment variable and name that in {name}_env, "
                f"or into a file and name that in {name}_file",
                name,
            )


def _check_consistency(written: Mapping[str, Any], faults: Faults) -> None:
    """Find options that exclude or need each other."""
    for name in _SECRETS:
        if f"{name}_env" in written and f"{name}_file" in written:
            faults.add(f"excludes {name}_env: set only one of them", f"{name}_file")
    if not {"url", "url_env", "url_file"} & written.keys():
        faults.add("is needed, or url_file", "url_env")
    if "teams" in written and written.get("unknown_above_usd"):
        faults.add(
            "excludes teams: it covers all teams, and a webhook with teams reports only theirs",
            "unknown_above_usd",
        )


def _secret(
    name: str, values: Mapping[str, Any], environ: Mapping[str, str], needed: bool
) -> Secret | None:
    """The secret that the environment holds, None where it has none. Raises ValueError."""
    variable = values.get(f"{name}_env")
    if variable is None:
        return None
    text = environ.get(variable, "")
    if not text:
        if needed:
            raise ValueError("the environment does not have this variable")
        return None
    try:
        _CHECKS[name](text)
    except ValueError as error:
        raise ValueError(f"the content of the variable {error}") from None
    return Secret(text)
