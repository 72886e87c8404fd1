"""Replace the key that wraps data keys while everything runs. For the console: no route leads here.

The order of the steps is what keeps every process able to open what any other has wrapped.
"""

from __future__ import annotations

from functools import partial

from services.keyvault.actions.examine_vault import ExamineVault
from services.keyvault.domain.canary import wrapping_canary
from services.keyvault.domain.errors import KeyringIsElsewhere, VersionInUse, VersionNotEverywhere
from services.keyvault.domain.ports import KeyringBook, NewUnitOfWork
from services.keyvault.domain.rotation import (
    not_knowing,
    on_standby,
    still_wrapping,
    to_close,
    with_active,
    with_closed,
    with_standby,
)
from services.keyvault.domain.vault import Vault
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class AddKeyringVersion:
    """Put a new version into the keyring, on standby: all are to know it before any uses it."""

    book: KeyringBook | None

    async def __call__(self) -> int:
        """The version that is on standby now. Raises KeyringRefused or KeyringIsElsewhere."""
        return on_standby((await _ours(self.book).change(with_standby)).states)


@dataclass(frozen=True, slots=True)
class ActivateKeyringVersion:
    """Let a version wrap what is new, once every running process can open what it wraps.

    Its canary goes in first, and only now: a process that did not know the version yet would take
    a canary for the sign of a wrong keyring.
    """

    book: KeyringBook | None
    unit_of_work: NewUnitOfWork
    examine_vault: ExamineVault
    vault: Vault

    async def __call__(self, version: int | None = None) -> int:
        """Raises VersionNotEverywhere, which a caller may wait for, and what `on_standby` does."""
        book = _ours(self.book)
        version = on_standby((await book.read()).states, version)
        await self.examine_vault()
        canary = await wrapping_canary(self.vault.roots, version)
        async with self.unit_of_work() as work:
            behind = not_knowing(await work.rotation.live(), version)
            if behind:
                raise VersionNotEverywhere(version, [replica.name for replica in behind])
            await work.canaries.add([canary])
        await book.change(partial(with_active, version=version))
        return version


@dataclass(frozen=True, slots=True)
class RetireKeyringVersion:
    """Close a version that wraps nothing any more: from then on it opens nothing.

    With its canary it loses the right to wrap, which every new data key needs; so none can slip in
    between the count and the change of the file. At a key service, its operator closes it then.
    """

    book: KeyringBook | None
    unit_of_work: NewUnitOfWork
    examine_vault: ExamineVault
    vault: Vault

    async def __call__(self, version: int) -> None:
        """Raises VersionInUse, VersionIsActive, NoSuchVersion, VersionNotEverywhere."""
        await self.examine_vault()
        to_close((await self.vault.roots.kek.state()).versions, version)
        async with self.unit_of_work() as work:
            behind = still_wrapping(await work.rotation.live(), version)
            if behind:
                raise VersionNotEverywhere(version, [replica.name for replica in behind])
            await work.canaries.remove(version)
            wrapped = (await work.data_keys.count_by_version()).get(version, 0)
            # The roots at a key service move by themselves, at the next look of a web process.
            wrapped += sum(root.kek_version == version for root in await work.sealed_roots.all())
            if wrapped:
                raise VersionInUse(version, wrapped)
        if self.book is not None:
            await self.book.change(partial(with_closed, version=version))


def _ours(book: KeyringBook | None) -> KeyringBook:
    if book is None:
        raise KeyringIsElsewhere
    return book
