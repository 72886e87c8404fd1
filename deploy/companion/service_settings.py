"""A service's settings, as the environment of this process says them."""

from __future__ import annotations

from typing import TypeVar

from deploy.companion.errors import CompanionError
from shared.settings import EnvironmentSettings, SettingsRefused

S = TypeVar("S", bound=EnvironmentSettings)


def read_settings(kind: type[S]) -> S:
    """The settings as this process's environment says them. Raises CompanionError."""
    try:
        return kind.from_environment()
    except SettingsRefused as refused:
        raise CompanionError(str(refused)) from refused
