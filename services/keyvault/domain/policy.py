"""Which providers there are, and which service may use keys of which."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from services.keyvault.domain.errors import UnknownProvider
from shared.tiers import COMPATIBLE
from shared.vendors import vendors

_PROVIDERS_OF: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "chat": frozenset({"openai", "gemini", "anthropic", COMPATIBLE}),
        "voice": frozenset({"elevenlabs"}),
    }
)
SERVICES = tuple(sorted(_PROVIDERS_OF))


def may_use(service: str, provider: str) -> bool:
    """Whether a service has any business with a provider; a service not named has none."""
    return provider in _PROVIDERS_OF.get(service, frozenset())


def require_provider(name: str) -> None:
    """Raises UnknownProvider when we speak to no vendor of this name."""
    if name not in vendors:
        raise UnknownProvider
