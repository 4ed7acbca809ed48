"""The configuration in force as plain values, in the words of gateway.toml. No secret is in it."""

from typing import Any

import msgspec
from msgspec import Struct

from gateway.config.models import Model
from gateway.config.settings import Settings
from gateway.config.webhooks import Webhook
from gateway.core.listing import Listing, listing
from gateway.core.money import format_usd
from gateway.core.secret import Secret

MASK = "***"


def config_listing(settings: Settings) -> Listing:
    """All sections and models. A secret that is set is stars, one that is not None."""
    sections = ("server", "upstream", "store", "keys", "cache", "usage", "activity", "log")
    found = {name: _plain(getattr(settings, name)) for name in sections}
    found["store"]["url"] = settings.store.place.shown
    place = settings.cache.place
    found["cache"]["url"] = "" if place is None else place.shown
    limits = listing(settings.limits)
    shared = {name: limits[name] for name in limits if "_per_day" in name or "_per_month" in name}
    admin = settings.admin
    tokens = {name: {"role": token.role} for name, token in admin.tokens.items()}
    webhooks = settings.alerts.webhooks
    return found | {
        "limits": shared,
        "admin": {
            "token": None if admin.token is None else MASK,
            "audit_days": admin.audit_days,
            "show_prompts": admin.show_prompts,
            "tokens": tokens,
        },
        "alerts": {"webhooks": {name: _webhook(hook) for name, hook in webhooks.items()}},
        "models": {
            name: _model(model, default=name == settings.default_model)
            for name, model in settings.models.items()
        },
    }


def _webhook(webhook: Webhook) -> Listing:
    above = webhook.unknown_above
    return {
        "kind": webhook.kind,
        "url": webhook.shown,
        "url_env": webhook.url_env,
        "url_file": webhook.url_file,
        "secret_env": webhook.secret_env,
        "secret_file": webhook.secret_file,
        "at_percent": list(webhook.at_percent),
        "teams": None if webhook.teams is None else list(webhook.teams),
        "unknown_above_usd": "" if above is None else format_usd(above),
    }


def _model(model: Model, *, default: bool) -> Listing:
    tokens = model.token_prices
    return {
        "default": default,
        "max_n": model.max_n,
        "max_prompt_chars": model.max_prompt_chars,
        "billing": model.billing,
        "sizes": _plain(model.sizes),
        "defaults": {"n": model.default_n, "size": model.default_size},
        "prices": _prices(model),
        "token_prices": None
        if tokens is None
        else {name: format_usd(price) for name, price in msgspec.structs.asdict(tokens).items()},
    }


def _prices(model: Model) -> str | Listing:
    """Dollars an image; under "all" what holds for every size of a quality."""
    if model.prices.flat is not None:
        return format_usd(model.prices.flat)
    prices: dict[str, Listing] = {}
    for (quality, size), price in model.prices.cells.items():
        prices.setdefault(quality, {})[size or "all"] = format_usd(price)
    return prices


def _plain(section: Struct) -> Any:
    return msgspec.to_builtins(section, enc_hook=_masked)


def _masked(value: object) -> str:
    if isinstance(value, Secret):
        return MASK
    raise TypeError(f"no plain form of {type(value).__name__}")
