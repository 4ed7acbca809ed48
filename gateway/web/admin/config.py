"""The current configuration in the admin API, under the names of gateway.toml, without secrets."""

from dataclasses import dataclass
from typing import Any

from msgspec import defstruct
from msgspec.structs import asdict

from gateway.config.live import CurrentSettings
from gateway.config.models import Model
from gateway.config.options import options_of
from gateway.config.settings import OPTIONS, SECTIONS, Settings
from gateway.config.webhooks import Webhook, WebhookOptions
from gateway.core.listing import Listing, listing
from gateway.core.money import format_usd
from gateway.web.admin.http import AdminRequest, AdminRoute

_WEBHOOK_OPTIONS = options_of(WebhookOptions)

ConfigPage = defstruct(
    "ConfigPage",
    [(name, dict[str, Any]) for name in (*SECTIONS, "models")] + [("public_url", str)],
    namespace={"__doc__": "The configuration in force, and the URL that clients use."},
    frozen=True,
    kw_only=True,
)
"""Every section of `Settings` with its options, the models, and the URL that clients use."""


@dataclass(frozen=True)
class AdminConfig:
    """The route of the configuration. `url` is the public port's."""

    settings: CurrentSettings
    url: str

    @AdminRoute("GET", "/config", "The current configuration", response=ConfigPage)
    async def _config(self, call: AdminRequest) -> Listing:
        current = self.settings()
        return config_listing(current) | {"public_url": current.server.public_url or self.url}


def config_listing(settings: Settings) -> Listing:
    """Return all sections and models. A secret is shown as stars, or as None if it is not set."""
    sections = {
        section: {
            name: option.show(getattr(getattr(settings, section), name))
            for name, option in options.items()
        }
        for section, options in OPTIONS.items()
        if section != "limits"
    }
    limits, tokens = listing(settings.limits), settings.admin.tokens
    webhooks = settings.alerts.webhooks
    sections["limits"] = {name: limits[name] for name in OPTIONS["limits"]}
    sections["admin"]["tokens"] = {name: {"role": token.role} for name, token in tokens.items()}
    sections["alerts"]["webhooks"] = {name: _webhook(hook) for name, hook in webhooks.items()}
    models = {
        name: _model(model, default=name == settings.default_model)
        for name, model in settings.models.items()
    }
    return {**sections, "models": models}


def _webhook(webhook: Webhook) -> Listing:
    above = webhook.unknown_above
    return {name: getattr(webhook, name) for name in _WEBHOOK_OPTIONS} | {
        "url": webhook.shown,
        "unknown_above_usd": "" if above is None else format_usd(above),
    }


def _model(model: Model, *, default: bool) -> Listing:
    tokens = model.token_prices
    return {
        "default": default,
        "max_n": model.max_n,
        "max_prompt_chars": model.max_prompt_chars,
        "billing": model.billing,
        "aliases": model.aliases,
        "rewrite": asdict(model.rewrite),
        "upstream_defaults": model.upstream_defaults,
        "sizes": asdict(model.sizes),
        "defaults": asdict(model.defaults),
        "prices": _prices(model),
        "token_prices": None
        if tokens is None
        else {name: format_usd(price) for name, price in asdict(tokens).items()},
    }


def _prices(model: Model) -> str | Listing:
    """Return dollars per image; "all" is the price of every size of a quality."""
    if model.prices.flat is not None:
        return format_usd(model.prices.flat)
    prices: dict[str, Listing] = {}
    for (quality, size), price in model.prices.cells.items():
        prices.setdefault(quality, {})[size or "all"] = format_usd(price)
    return prices
