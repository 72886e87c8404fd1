"""The audit trail and its chain in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.auth.domain.audit import AuditEntry
from services.auth.domain.audit_chain import ChainedEvent, ChainState, Head, Link, LinkedEvent
from services.auth.domain.origin import NOWHERE
from shared.ids import UserId


def chained(entry: AuditEntry) -> ChainedEvent:
    """An entry as the chain sees it."""
    return ChainedEvent(
        id=entry.id,
        at=entry.at,
        action=entry.action,
        user_id=entry.user_id,
        actor_id=entry.actor_id,
        organisation_id=entry.organisation_id,
        facts=json.dumps(dict(entry.facts), sort_keys=True),
    )


class MemoryAudit:
    def __init__(self, entries: list[AuditEntry]) -> None:
        self._entries = entries

    async def note(self, entry: AuditEntry) -> None:
        self._entries.append(entry)

    async def note_all(self, entries: Sequence[AuditEntry]) -> None:
        self._entries.extend(entries)

    async def of_user(
        self, user_id: UserId, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        return self._page([one for one in self._entries if one.user_id == user_id], before, most)

    async def by_user(
        self, user_id: UserId, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        found = [e for e in self._entries if e.actor_id == user_id and e.user_id != user_id]
        return self._page(found, before, most)

    async def of_organisation(
        self, organisation_id: UUID, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        found = [one for one in self._entries if one.organisation_id == organisation_id]
        return self._page(found, before, most)

    async def of_everybody(self, *, since: datetime | None, most: int) -> Sequence[AuditEntry]:
        found = [one for one in self._entries if since is None or one.at >= since]
        return self._page(found, None, most)

    async def erase_origins_of(self, user_id: UserId, *, most: int) -> int:
        return self._forget(lambda one: (one.actor_id or one.user_id) == user_id, most)

    async def forget_before(self, at: datetime, *, most: int) -> int:
        return self._forget(lambda one: one.at < at, most)

    def _forget(self, which: Callable[[AuditEntry], bool], most: int) -> int:
        found = [i for i, one in enumerate(self._entries) if which(one) and one.origin != NOWHERE]
        for index in found[:most]:
            self._entries[index] = replace(self._entries[index], origin=NOWHERE)
        return len(found[:most])

    @staticmethod
    def _page(found: list[AuditEntry], before: UUID | None, most: int) -> Sequence[AuditEntry]:
        older = [one for one in found if before is None or one.id < before]
        return sorted(older, key=lambda one: one.id, reverse=True)[:most]


class MemoryAuditChain:
    def __init__(self, entries: list[AuditEntry], links: list[Link]) -> None:
        self._entries = entries
        self._links = links

    async def take_turn(self) -> bool:
        return True

    async def head(self) -> Head:
        return Head(self._links[-1].sequence, self._links[-1].mac) if self._links else Head()

    async def unlinked(self, *, most: int) -> Sequence[ChainedEvent]:
        linked = {link.event_id for link in self._links}
        waiting = [one for one in self._entries if one.id not in linked]
        return [chained(one) for one in sorted(waiting, key=lambda one: one.id)][:most]

    async def add(self, links: Sequence[Link]) -> None:
        self._links += links

    async def after(self, sequence: int, *, most: int) -> Sequence[LinkedEvent]:
        events = {one.id: chained(one) for one in self._entries}
        found = [link for link in self._links if link.sequence > sequence][:most]
        return [LinkedEvent(link, events.get(link.event_id)) for link in found]

    async def events_after(
        self, event_id: UUID | None, *, most: int
    ) -> Sequence[tuple[UUID, bool, bool]]:
        linked = {link.event_id for link in self._links}
        ids = sorted(one.id for one in self._entries if event_id is None or one.id > event_id)
        return [(id_, id_ in linked, id_ not in linked) for id_ in ids[:most]]

    async def state(self, at: datetime) -> ChainState:
        return ChainState(len(self._links), len(self._entries) - len(self._links), 0.0)
