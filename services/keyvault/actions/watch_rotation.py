"""Tell and show how far a rotation is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from services.keyvault.domain.ports import NewUnitOfWork
from services.keyvault.domain.rotation import Replica
from services.keyvault.domain.vault import Vault
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RotationState:
    """How many data keys each version wraps and has been given, and who runs with what."""

    data_keys: Mapping[int, int]
    rewrapped: Mapping[int, int]
    replicas: Sequence[Replica]


@dataclass(frozen=True, slots=True)
class ReportKeyring:
    """Tell with which versions this process has opened its vault; a sealed one has none to tell."""

    unit_of_work: NewUnitOfWork
    vault: Vault

    async def __call__(self, name: str, *, good_for: timedelta) -> None:
        if self.vault.is_sealed:
            return
        state = await self.vault.roots.kek.state()
        replica = Replica(name, state.active, frozenset(state.usable))
        async with self.unit_of_work() as work:
            await work.rotation.report(replica, good_for=good_for)

    async def leave(self, name: str) -> None:
        """This process ends: nobody has to wait until its word grows old."""
        async with self.unit_of_work() as work:
            await work.rotation.leave(name)


@dataclass(frozen=True, slots=True)
class ShowRotation:
    """For the console and for the gauges."""

    unit_of_work: NewUnitOfWork

    async def __call__(self) -> RotationState:
        async with self.unit_of_work() as work:
            return RotationState(
                await work.data_keys.count_by_version(),
                await work.rotation.counted(),
                await work.rotation.live(),
            )
