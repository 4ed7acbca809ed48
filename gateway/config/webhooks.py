"""The tables [alerts.webhooks.NAME] of gateway.toml: which webhook receives which alerts.

A webhook's URL is a secret, because everybody who knows it can post there. The signing secret is
one too. Neither is in the configuration: an option names the environment variable or the file that
holds it. `gateway.reporting.alerts.http` reads the files.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from gateway.config.options import Micro, is_table, options_of, read_table
from gateway.config.values import NAME, NAME_RULE, File, http_host
from gateway.core.faults import Faults
from gateway.core.money import MICRO, dollars
from gateway.core.secret import Secret, wrapping_fault

WebhookKind = Literal["json", "slack"]

_URL = re.compile(r"[!-~]{1,2000}")
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of secrets, not a secret
SECRET_BYTES = (24, 64)
"""The minimum and maximum length of a secret, as Standard Webhooks recommends."""

_MASK = "***"


def check_url(text: str) -> str:
    """Return the URL of a webhook if it is valid. The ValueError does not repeat it."""
    if not (_URL.fullmatch(text) and http_host(text)) or urlsplit(text).fragment:
        raise ValueError("is not an http or https URL")
    return text


def shown_url(text: str) -> str:
    """Return the part of a webhook's URL that is not secret: scheme, host and port."""
    parts = urlsplit(text)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}/{_MASK}"


def check_secret(text: str) -> bytes:
    """Return the bytes of a signing secret. The ValueError does not repeat it."""
    least, most = SECRET_BYTES
    wrong = f"is not whsec_ and the base64 of {least} to {most} bytes"
    if not text.startswith(SECRET_PREFIX):
        raise ValueError(wrong)
    try:
        key = b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        raise ValueError(wrong) from None
    if not least <= len(key) <= most:
        raise ValueError(wrong)
    return key


def _amount_or_never(value: object) -> int | None:
    """Return micro-dollars, or None for "", which means never."""
    if value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError("not an amount")
    return dollars(value)


Variable = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\Z",
        description="the name of an environment variable",
    ),
]
Percent = Annotated[int, Meta(ge=1, le=100)]
TeamName = Annotated[str, Meta(pattern=rf"\A{NAME.pattern}\Z", description="a team's name")]


class WebhookOptions(Struct, frozen=True, kw_only=True):
    """A webhook that receives alerts. It needs url_env or url_file.

    Options:
        kind: Message format; "slack" also suits Mattermost and others.
        url_env: Environment variable that holds the URL.
        url_file: File that holds the URL.
        secret_env: Environment variable that holds the signing secret (whsec_..., as in Standard
            Webhooks). Without a secret, messages are not signed.
        secret_file: File that holds the signing secret.
        at_percent: Percentages of a budget that cause an alert, for each team, key and the gateway.
        teams: Only send alerts about the budgets of these teams and their keys.
        unknown_above_usd: Alert when a UTC day's unknown charges exceed this; "" for never.
    """

    kind: WebhookKind = "json"
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
            extra={"read": _amount_or_never},
        ),
    ] = Micro(MICRO)


class Webhook(WebhookOptions, frozen=True, kw_only=True):
    """A webhook with its name. `url` and `secret` come from the environment.

    They are None if a file holds them, or if there is no secret.
    """

    name: str
    url: Secret | None = None
    secret: Secret | None = None

    @property
    def unknown_above(self) -> int | None:
        """Micro-dollars a day, or None if it receives no alerts about unknown charges."""
        if self.teams is not None or self.unknown_above_usd is None:
            return None
        # A plain integer: the id of an alert is made of its encoded amount, and msgspec encodes no
        # subclass of int.
        return int(self.unknown_above_usd)

    @property
    def shown(self) -> str:
        """The part of its URL that is not secret."""
        return shown_url(self.url.reveal()) if self.url else _MASK


class AlertSettings(Struct, frozen=True, kw_only=True):
    """The webhooks that receive alerts, by name."""

    webhooks: Mapping[str, Webhook] = {}


_OPTIONS = options_of(WebhookOptions)
_CHECKS: Mapping[str, Callable[[str], object]] = {"url": check_url, "secret": check_secret}


def variables_of(table: object) -> Iterator[str]:
    """Yield the environment variables that the webhooks of [alerts.webhooks] name."""
    for webhook in table.values() if isinstance(table, dict) else ():
        if isinstance(webhook, dict):
            named = (webhook.get(f"{name}_env") for name in _CHECKS)
            yield from (name for name in named if isinstance(name, str))


def read_webhooks(
    table: object, environ: Mapping[str, str], faults: Faults, *, serving: bool
) -> dict[str, Webhook]:
    """Return the valid webhooks of [alerts.webhooks] by name.

    Only `serving` needs the environment variables that they name.
    """
    webhooks = dict[str, Webhook]()
    if not is_table(table, faults):
        return webhooks
    for name, options in table.items():
        before, here = len(faults), faults.at(name)
        if not NAME.fullmatch(name):
            here.add(f"a webhook's name {NAME_RULE}")
        values = read_table(options, _OPTIONS, here, tables=_CHECKS)
        _check_consistency(options if isinstance(options, dict) else {}, here)
        for secret in _CHECKS:
            try:
                values[secret] = _secret(secret, values, environ, serving)
            except ValueError as error:
                here.add(str(error), f"{secret}_env")
        if len(faults) == before:
            webhooks[name] = Webhook(name=name, **values)
    return webhooks


def _check_consistency(written: Mapping[str, Any], faults: Faults) -> None:
    """Find secrets, and options that exclude or need each other."""
    for name in _CHECKS:
        if name in written:
            faults.add(
                f"is a secret: put it into an environment variable and name that in {name}_env, "
                f"or into a file and name that in {name}_file",
                name,
            )
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
    """Return the secret from the environment, or None. Only if `needed` it must be there."""
    variable = values.get(f"{name}_env")
    text = environ.get(variable or "", "")
    if variable and needed and not text:
        raise ValueError("the environment does not have this variable")
    if not text:
        return None
    try:
        if fault := wrapping_fault(text.encode("utf-8", "surrogateescape")):
            raise ValueError(fault)
        _CHECKS[name](text)
    except ValueError as error:
        raise ValueError(f"the content of the variable {error}") from None
    return Secret(text)
