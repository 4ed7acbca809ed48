"""[alerts.webhooks]: what is right, and every fault at once without a value."""

from collections.abc import Mapping

import pytest

from gateway.config.load import read_settings
from gateway.config.webhooks import check_secret, check_url, shown_url
from gateway.core.faults import ConfigError
from gateway.core.secret import Secret

URL = "https://hooks.example.com/services/T000/hidden?key=hidden"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
UPSTREAM = {"GATEWAY_UPSTREAM_BASE_URL": "http://u", "GATEWAY_UPSTREAM_API_KEY": "k"}
ENVIRON = {"OPS_URL": URL, "OPS_SECRET": SECRET}

TOML = """
[alerts.webhooks.ops]
url_env = "OPS_URL"
secret_env = "OPS_SECRET"
at_percent = [50, 100]
unknown_above_usd = 2.5
[alerts.webhooks."design.slack"]
kind = "slack"
url_file = "/run/secrets/slack"
teams = ["design"]
"""


def faults(toml: str, environ: Mapping[str, str] = UPSTREAM, *, serving: bool = False) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read_settings(toml, environ, file="x", needs_upstream=serving)
    return list(map(str, raised.value.faults))


def test_webhooks_are_read() -> None:
    settings, warnings = read_settings(TOML, ENVIRON)
    ops, design = settings.alerts.webhooks.values()
    assert (ops.name, ops.kind, ops.url, ops.secret) == ("ops", "json", Secret(URL), Secret(SECRET))
    assert (ops.at_percent, ops.unknown_above) == ((50, 100), 2_500_000)
    assert (design.name, design.kind, design.url) == ("design.slack", "slack", None)
    assert (design.at_percent, design.teams, design.unknown_above) == ((80, 100), ("design",), None)
    assert not warnings


@pytest.mark.parametrize(
    ("written", "above"),
    [
        *(("", 1_000_000), ('unknown_above_usd = ""', None), ("unknown_above_usd = 0", 0)),
        *(('unknown_above_usd = "0.5"', 500_000), ("unknown_above_usd = 3", 3_000_000)),
    ],
)
def test_the_threshold_of_unknown_charges(written: str, above: int | None) -> None:
    toml = f'[alerts.webhooks.a]\nurl_env = "OPS_URL"\n{written}'
    assert read_settings(toml, ENVIRON)[0].alerts.webhooks["a"].unknown_above == above


def test_every_fault_is_found_at_once_without_values() -> None:
    toml = f"""
    [alerts]
    webhook = 3
    [alerts.webhooks]
    "-x" = {{ url_env = "OPS_URL" }}
    a = {{ url = "{URL}", secret = "{SECRET}" }}
    b = {{ kind = "teams", at_percent = [0, 101], unknown_above_usd = true }}
    c = {{ url_env = "OPS_URL", url_file = "f", secret_env = "A B", teams = [] }}
    d = {{ url_env = "WRONG_URL", secret_env = "WRONG_SECRET" }}
    e = {{ url_env = "OPS_URL", teams = ["x"], unknown_above_usd = 1 }}
    f = 3
    """
    wrong = {"WRONG_URL": "ftp://hidden", "WRONG_SECRET": "hidden"}
    found = faults(toml, {**ENVIRON, **wrong})
    shown = (
        "[alerts] webhook: no such option; did you mean 'webhooks'?",
        "[alerts.webhooks] -x: a webhook's name must have 1 to 64 letters",
        "[alerts.webhooks.a] url: is a secret",
        "[alerts.webhooks.a] secret: is a secret",
        '[alerts.webhooks.b] kind: must be "json" or "slack"',
        "[alerts.webhooks.b] at_percent: must be a list, each item an integer from 1 to 100",
        "[alerts.webhooks.b] unknown_above_usd: must be dollars",
        "[alerts.webhooks.b] url_env: is needed, or url_file",
        "[alerts.webhooks.c] url_file: excludes url_env",
        "[alerts.webhooks.c] secret_env: must be the name of an environment variable",
        "[alerts.webhooks.c] teams: must be a list that is not empty",
        "[alerts.webhooks.d] url_env: the content of the variable is not an http or https URL",
        "[alerts.webhooks.d] secret_env: the content of the variable is not whsec_",
        "[alerts.webhooks.e] unknown_above_usd: excludes teams",
        "[alerts.webhooks] f: must be a table",
        "[alerts.webhooks.f] url_env: is needed",
    )
    text = "\n".join(found)
    assert all(part in text for part in shown)
    assert len(found) == len(shown)
    for value in ("hidden", SECRET[6:]):
        assert value not in text


def test_the_variables_are_needed_only_to_serve() -> None:
    assert read_settings(TOML, {})[0].alerts.webhooks["ops"].url is None
    assert faults(TOML, serving=True) == [
        "x: [alerts.webhooks.ops] url_env: the environment does not have this variable",
        "x: [alerts.webhooks.ops] secret_env: the environment does not have this variable",
    ]


def test_a_variable_that_a_webhook_names_is_no_stray_one() -> None:
    toml = '[alerts.webhooks.a]\nurl_env = "GATEWAY_ALERTS_OPS"'
    assert read_settings(toml, {"GATEWAY_ALERTS_OPS": URL})[1] == []
    with pytest.raises(ConfigError, match="GATEWAY_ALERTS_OPS"):
        read_settings("", {"GATEWAY_ALERTS_OPS": URL})


def test_quotes_around_a_variable_are_a_fault_that_says_so() -> None:
    found = faults(TOML, {"OPS_URL": f'"{URL}"', "OPS_SECRET": f"'{SECRET}'"})
    fault = "the content of the variable has quotes around it: remove them"
    assert found == [
        f"x: [alerts.webhooks.ops] url_env: {fault}",
        f"x: [alerts.webhooks.ops] secret_env: {fault}",
    ]


def test_webhooks_that_are_no_table() -> None:
    assert faults("[alerts]\nwebhooks = 3") == ["x: [alerts] webhooks: must be a table"]
    assert faults("alerts = 3") == ["x: [alerts]: must be a table"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hooks.example.com/x",
        "ftp://example.com/x",
        "https:///x",
        "https://example.com/x#y",
        "https://example.com/a b",
        "https://example.com/ä",
        "https://example.com:99999/",
        "https://[::1/x",
        "https://example.com/\n",
        "https://example.com/" + "x" * 2_000,
    ],
)
def test_invalid_urls(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is not an http or https URL$"):
        check_url(text)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "https://hooks.example.com/***"),
        ("http://user:hidden@[::1]:80/hidden", "http://[::1]:80/***"),
    ],
)
def test_only_the_origin_of_a_url_is_shown(url: str, shown: str) -> None:
    assert shown_url(check_url(url)) == shown


@pytest.mark.parametrize(
    "text", ["", "whsec_", SECRET[6:], "whsec_%%%", "whsec_" + "A" * 28, "whsec_" + "A" * 88]
)
def test_invalid_secrets(text: str) -> None:
    with pytest.raises(ValueError, match="is not whsec_"):
        check_secret(text)
