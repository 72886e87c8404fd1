"""Where the databases and the broker are: what the environment says, or the embedded ones."""

from __future__ import annotations

from dataclasses import field

from deploy.companion.installation import Installation
from deploy.companion.settings import Settings
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Servers:
    """For commands that work on databases and queues."""

    database_url: str = field(repr=False)
    broker_url: str = field(repr=False)

    @classmethod
    def find(cls) -> Servers:
        """Raises CompanionError when a URL is neither set nor known from a started suite."""
        settings = Settings.from_environment()
        if settings.database_url and settings.broker_url:
            return cls(settings.database_url, settings.broker_url)
        addresses = Installation.open(settings).addresses()
        return cls(addresses.database_url, addresses.broker_url)
