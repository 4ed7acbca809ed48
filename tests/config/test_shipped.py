"""config/gateway.toml is the documentation: every option, each at its default."""

import re
import tomllib
from pathlib import Path

import pytest

from gateway.config import settings
from gateway.config.load import read_settings
from gateway.config.models import KNOWN_TOKEN_PRICES, SizeRules, TokenPrices
from gateway.config.settings import Settings
from gateway.config.webhooks import WebhookOptions

SHIPPED = (Path(__file__).parents[2] / "config" / "gateway.toml").read_text(encoding="utf-8")
OPTIONS = [(section, name) for section, options in settings.OPTIONS.items() for name in options]


def test_the_shipped_file_has_the_defaults() -> None:
    assert read_settings(SHIPPED, {}) == (Settings(), [])


WITHOUT_DEFAULT = {
    *("upstream.base_url", "upstream.api_key_file", "server.tls_cert", "server.tls_key"),
}


@pytest.mark.parametrize(("section", "name"), OPTIONS)
def test_the_shipped_file_has_every_option(section: str, name: str) -> None:
    if section == "limits" or f"{section}.{name}" in WITHOUT_DEFAULT:
        assert f"\n# {name} = " in SHIPPED
    elif name in ("api_key", "pepper", "token"):
        assert f"GATEWAY_{section}_{name}".upper() in SHIPPED
    else:
        assert name in tomllib.loads(SHIPPED)[section]


def test_the_shipped_file_has_every_option_of_a_model() -> None:
    model = tomllib.loads(SHIPPED)["models"]["gpt-image-2"]
    assert set(model) == {
        *("default", "max_n", "max_prompt_chars", "billing", "sizes", "defaults", "prices"),
    }
    assert {*model["sizes"], "allowed"} == set(SizeRules.__struct_fields__)
    assert "\n# allowed = " in SHIPPED
    assert all(f"\n# {name} = " in SHIPPED for name in TokenPrices.__struct_fields__)
    assert set(model["defaults"]) == {"n", "size"}


def test_the_shipped_file_has_every_option_of_a_webhook() -> None:
    assert all(f"\n# {name} = " in SHIPPED for name in ("kind", "url_env", "url_file"))
    shown = "(secret_env|secret_file|at_percent|teams|unknown_above_usd)"
    assert {
        *("kind", "url_env", "url_file", *re.findall(rf"\b{shown}\b", SHIPPED)),
    } == set(WebhookOptions.__struct_fields__)


def test_what_the_shipped_file_has_in_comments_is_right() -> None:
    shown = re.sub(r"^# (?=\w+ = |\[(models|admin|alerts))", "", SHIPPED, flags=re.MULTILINE)
    shown = shown.replace('\nbilling = "table"', '\nbilling = "tokens"')
    found, warnings = read_settings(shown, {})
    assert not warnings
    assert found.upstream.base_url
    assert found.admin.tokens["grafana"].role == "viewer"
    assert found.alerts.webhooks["ops"].kind == "json"
    assert found.alerts.webhooks["design"].teams == ("design",)
    assert found.limits.images_per_day
    assert found.models["gpt-image-2"].sizes.allowed
    assert found.models["gpt-image-2"].token_prices == TokenPrices(
        **KNOWN_TOKEN_PRICES["gpt-image-2"], text_output=30_000_000
    )
