"""The configuration in force, in the admin API: every option, secrets masked."""

from collections.abc import Callable
from typing import Any

from aiohttp import web
from msgspec import Struct

from gateway.config.settings import Settings
from gateway.web.admin.config_view import config_listing
from gateway.web.admin.request import AdminRequest, AdminRoute
from gateway.web.admin.responses import answer


class ConfigPage(Struct, frozen=True, kw_only=True):
    """The sections of gateway.toml with their options as they hold now, and how clients reach the
    gateway.
    """

    server: dict[str, Any]
    upstream: dict[str, Any]
    store: dict[str, Any]
    keys: dict[str, Any]
    cache: dict[str, Any]
    usage: dict[str, Any]
    activity: dict[str, Any]
    limits: dict[str, Any]
    admin: dict[str, Any]
    alerts: dict[str, Any]
    log: dict[str, Any]
    models: dict[str, Any]
    public_url: str


class AdminConfig:
    """The route to the configuration. `settings` gives those in force, `url` tells where the
    gateway listens.
    """

    def __init__(self, settings: Callable[[], Settings], url: str) -> None:
        self._settings = settings
        self._url = url

    def routes(self) -> list[AdminRoute]:
        """All of them."""
        path = "/admin/v1/config"
        return [AdminRoute("GET", path, "The current configuration", self._config, ConfigPage)]

    async def _config(self, call: AdminRequest) -> web.Response:
        settings = self._settings()
        public_url = settings.server.public_url or self._url
        return answer(config_listing(settings) | {"public_url": public_url})
