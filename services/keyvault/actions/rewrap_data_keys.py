"""Bring all data keys under the active version of the key that wraps them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from services.keyvault.actions.examine_vault import ExamineVault
from services.keyvault.domain.envelope import NotAuthentic
from services.keyvault.domain.ports import NewUnitOfWork
from services.keyvault.domain.roots import Roots
from services.keyvault.domain.rotation import Progress
from services.keyvault.domain.secret import DataKey, data_key_place
from services.keyvault.domain.vault import Vault
from shared.values import dataclass

log = structlog.get_logger(__name__)

PAGE = 500
# A key service is asked while the page is held, many times at once: even a slow one is done long
# before the database ends a transaction that rests (15 s).
_REMOTE_PAGE, _AT_ONCE = 64, 32
# Data keys that somebody else holds are waited for so often, then left for another run.
_LOOKS, _PAUSE_SECONDS = 20, 0.25

Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class RewrapDataKeys:
    """Wrap what older versions wrapped under the active one, page by page; no secret is opened.

    Each page commits by itself and a data key is replaced only if it is as it was read, so that it
    may be killed at any moment, run again, and run twice at once. Nobody waits for it but who
    shreds a data key of the page at hand. One that does not open is logged and left.
    """

    unit_of_work: NewUnitOfWork
    examine_vault: ExamineVault
    vault: Vault

    async def __call__(self, tell: Tell = lambda _: None) -> Progress:
        """Raises VaultSealed, VersionClosed or DependencyUnavailable; what is done stays done."""
        await self.examine_vault()
        roots = self.vault.roots
        target = (await roots.kek.state()).active
        progress = Progress(target, rewrapped=0, left=await self._left(target))
        looks = 0
        # Whatever was held by somebody else, or was wrapped by a process that had not heard of the
        # new version, is found by going through once more.
        while progress.left > progress.broken and looks < _LOOKS:
            before = progress.rewrapped
            progress = await self._pass(roots, progress, tell)
            if progress.rewrapped == before:
                looks += 1
                await asyncio.sleep(_PAUSE_SECONDS if progress.left > progress.broken else 0)
        return progress

    async def _pass(self, roots: Roots, progress: Progress, tell: Tell) -> Progress:
        progress, last = replace(progress, broken=0), None
        while True:
            page, fresh, done = await self._page(roots, progress.target, last)
            if not page:
                return replace(progress, left=await self._left(progress.target))
            last = page[-1]
            progress = replace(
                progress,
                rewrapped=progress.rewrapped + done,
                left=max(progress.left - done, 0),
                broken=progress.broken + len(page) - fresh,
            )
            tell(progress)

    async def _page(
        self, roots: Roots, target: int, after: DataKey | None
    ) -> tuple[Sequence[DataKey], int, int]:
        async with self.unit_of_work() as work:
            most = _REMOTE_PAGE if roots.kek.is_remote else PAGE
            page = await work.data_keys.claim_older(target, after=after, most=most)
            fresh = await _rewrapped(roots, page)
            for version in {new.kek_version for _, new in fresh}:
                await work.canaries.hold(version)
            done = await work.data_keys.replace_wraps(fresh)
            if done:
                await work.rotation.count(target, done)
        return page, len(fresh), done

    async def _left(self, target: int) -> int:
        async with self.unit_of_work() as work:
            by_version = await work.data_keys.count_by_version()
        return sum(count for version, count in by_version.items() if version < target)


async def _rewrapped(roots: Roots, page: Sequence[DataKey]) -> list[tuple[DataKey, DataKey]]:
    if not roots.kek.is_remote:
        pairs = [(known, await _under_active(roots, known)) for known in page]
    else:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(known: DataKey) -> tuple[DataKey, DataKey | None]:
            async with gate:
                return known, await _under_active(roots, known)

        pairs = await asyncio.gather(*(one(known) for known in page))
    return [(known, fresh) for known, fresh in pairs if fresh is not None]


async def _under_active(roots: Roots, known: DataKey) -> DataKey | None:
    place = data_key_place(roots.environment, known, known.kek_version)
    try:
        wrapped = await roots.kek.rewrap(
            known.kek_version,
            known.wrapped,
            place,
            lambda version: data_key_place(roots.environment, known, version),
        )
    except NotAuthentic:
        log.error("data_key_not_opened", data_key_id=str(known.id), version=known.kek_version)
        return None
    return replace(known, kek_version=wrapped.version, wrapped=wrapped.envelope)
