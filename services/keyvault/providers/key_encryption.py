"""A key service as a deployment uses it: with time limits, a short memory, and doubts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from services.keyvault.domain.key_encryption import KeyEncryption
from services.keyvault.domain.keyring import KeyringRefused
from services.keyvault.domain.ports import KeyEncryptionSource
from services.keyvault.providers.data_key_cache import CachedKeyEncryption
from services.keyvault.providers.remote_kek import KeyService, RemoteKeyEncryption

log = structlog.get_logger(__name__)


class Refusing:
    """Stands in for a key service that could not even be set up: the vault stays sealed."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def read(self) -> KeyEncryption:
        """Raises KeyringRefused, always."""
        raise KeyringRefused(self._reason)


@asynccontextmanager
async def open_key_service(
    make: Callable[[], KeyService],
    *,
    installation: str,
    timeout_seconds: float,
    cache_seconds: float,
) -> AsyncIterator[KeyEncryptionSource]:
    """The key service, let go at the end with all that was kept unwrapped wiped."""
    try:
        service = make()
    except ImportError as error:
        log.error("key_service_kit_missing", module=error.name)
        yield Refusing("kek_kit_not_installed")
        return
    except Exception as error:  # the kits refuse bad settings each in their own way
        log.error("key_service_misconfigured", error=type(error).__name__)
        yield Refusing("kek_misconfigured")
        return
    remote = RemoteKeyEncryption(
        service, installation=installation, timeout_seconds=timeout_seconds
    )
    kept = CachedKeyEncryption(remote, seconds=cache_seconds)
    try:
        yield kept
    finally:
        kept.close()
