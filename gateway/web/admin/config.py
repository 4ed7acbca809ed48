"""The configuration in force, in the admin API: every option, secrets masked."""

from collections.abc import Callable

from aiohttp import web

from gateway.config.settings import Settings
from gateway.web.admin.config_view import ConfigPage, config_listing
from gateway.web.admin.request import AdminRequest, AdminRoute
from gateway.web.admin.responses import answer


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
