"""The settings in force while the gateway runs; a reload replaces them as a whole."""

from collections.abc import Callable

from gateway.config.settings import Settings

CurrentSettings = Callable[[], Settings]
"""Returns the settings in force. Parts call it at each use, so that a reload reaches them."""


class LiveSettings:
    """Holds the settings in force; calling it returns them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self) -> Settings:
        return self._settings

    def replace(self, settings: Settings) -> None:
        """Put these settings in force, for everything that starts from now on."""
        self._settings = settings
