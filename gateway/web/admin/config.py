"""The current configuration in the admin API, with secrets masked."""

from collections.abc import Callable

from gateway.config.settings import Settings
from gateway.core.listing import Listing
from gateway.web.admin.config_view import ConfigPage, config_listing
from gateway.web.admin.request import AdminRequest, AdminRoute


class AdminConfig:
    """The route of the configuration. `settings` returns the current ones.

    `url` is the address of the public port.
    """

    def __init__(self, settings: Callable[[], Settings], url: str) -> None:
        self._settings = settings
        self._url = url

    def routes(self) -> list[AdminRoute]:
        """The route to read the configuration."""
        path = "/admin/v1/config"
        return [AdminRoute("GET", path, "The current configuration", self._config, ConfigPage)]

    async def _config(self, call: AdminRequest) -> Listing:
        settings = self._settings()
        public_url = settings.server.public_url or self._url
        return config_listing(settings) | {"public_url": public_url}
