"""The rotation of the keyvault's keyring, from the console: its verbs, run in this process.

`file` names a keyring that is not at its place.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from deploy.companion.console_settings import settings_of
from deploy.companion.errors import CompanionError
from services.keyvault.actions import Actions
from services.keyvault.actions.watch_rotation import RotationState
from services.keyvault.domain.canary import Purpose
from services.keyvault.domain.errors import VersionNotEverywhere
from services.keyvault.domain.key_encryption import KekState
from services.keyvault.domain.keyring import KeyringRefused
from services.keyvault.domain.rotation import Progress
from services.keyvault.settings import Settings
from services.keyvault.wiring import wire
from shared.errors import ExpectedFailure, Unavailable
from shared.values import dataclass

_LOOK_AGAIN_SECONDS = 0.5


async def add(file: Path | None = None) -> int:
    """Put a new version on standby; the one that waits already, if one does."""
    async with _desk(file) as actions:
        return await actions.add_keyring_version()


async def activate(
    version: int | None,
    *,
    wait_seconds: float,
    tell: Callable[[str], None],
    file: Path | None = None,
) -> int:
    """Let a version wrap what is new, as soon as every running process knows it."""
    async with _desk(file) as actions:
        patience = _Patience(wait_seconds, tell)
        while True:
            try:
                return await actions.activate_keyring_version(version)
            except VersionNotEverywhere as failure:
                await patience.after(failure)


async def rewrap(tell: Callable[[Progress], None], file: Path | None = None) -> Progress:
    """Bring all data keys under the active version."""
    async with _desk(file) as actions:
        return await actions.rewrap_data_keys(tell)


async def retire(
    version: int,
    *,
    wait_seconds: float,
    tell: Callable[[str], None],
    file: Path | None = None,
) -> None:
    """Close a version under which nothing is wrapped any more."""
    async with _desk(file) as actions:
        patience = _Patience(wait_seconds, tell)
        while True:
            try:
                return await actions.retire_keyring_version(version)
            except VersionNotEverywhere as failure:
                await patience.after(failure)


@dataclass(frozen=True, slots=True)
class KeyringStatus:
    """The versions, and how far a rotation is. `keys`: none where no keyring can be read.

    `sealed_because`: why these keys don't open the vault; `missing`: versions that sealed something
    and are not among them.
    """

    keys: KekState | None
    rotation: RotationState
    sealed_because: str | None = None
    missing: Sequence[int] = ()

    @property
    def trouble(self) -> str:
        """Why the vault is sealed, in one sentence; empty where it opens."""
        if self.sealed_because is None:
            return ""
        lacking = "".join(f", version {version} is missing" for version in self.missing)
        return f"The vault is sealed: {self.sealed_because}{lacking}."


async def status(file: Path | None = None) -> KeyringStatus:
    """What the keyring, the database and the running processes say, also of a sealed vault."""
    async with _desk(file) as actions:
        await actions.examine_vault()
        vault = actions.examine_vault.vault
        if vault.sealed_because is not None:
            return await _sealed_status(actions, vault.sealed_because)
        return KeyringStatus(await vault.roots.kek.state(), await actions.show_rotation())


async def _sealed_status(actions: Actions, reason: str) -> KeyringStatus:
    examine = actions.examine_vault
    try:
        rotation = await actions.show_rotation()
        async with examine.unit_of_work() as work:
            canaries = await work.canaries.all()
    except Unavailable as failure:
        raise CompanionError(f"The vault is sealed: {reason}. {failure.message}") from failure
    try:
        keys = await (await examine.source.read()).state()
    except KeyringRefused:
        return KeyringStatus(None, rotation, reason)
    vouched = {canary.version for canary in canaries if canary.purpose is Purpose.WRAPPING}
    missing = sorted((vouched | rotation.data_keys.keys()) - keys.versions.keys())
    return KeyringStatus(keys, rotation, reason, missing)


class _Patience:
    """Waits for processes that have not taken a change yet, and says so once."""

    def __init__(self, seconds: float, tell: Callable[[str], None]) -> None:
        self._until = time.monotonic() + seconds
        self._tell = tell
        self._told = ""

    async def after(self, failure: VersionNotEverywhere) -> None:
        """Raises the failure once the time is over."""
        if time.monotonic() >= self._until:
            raise failure
        if failure.message != self._told:
            self._told = failure.message
            self._tell(failure.message)
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


@asynccontextmanager
async def _desk(file: Path | None) -> AsyncIterator[Actions]:
    """The keyvault's verbs in this process. Raises CompanionError for whatever goes wrong."""
    _log_what_went_wrong()
    try:
        settings = keyvault_settings()
        if file is not None:
            settings = settings.model_copy(update={"keyring_file": file})
        async with wire(settings) as wired:
            yield wired.actions
    except KeyringRefused as refused:
        raise CompanionError(
            f"The keyring can't be used: {refused.reason}.", "See the keyvault's README, Sealed."
        ) from refused
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure
    except OSError as error:
        raise CompanionError(
            f"The keyring can't be read or replaced: {error.strerror or error}."
        ) from error


def _log_what_went_wrong() -> None:
    """Beside the output, not in it, and nothing that the output says anyway."""
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        )


def keyvault_settings() -> Settings:
    """The keyvault's settings, wherever this console runs."""
    return settings_of("keyvault", Settings, known_by={"KEYVAULT_KEYRING", "KEYVAULT_KEYRING_FILE"})
