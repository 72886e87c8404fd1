"""Let tiers and seats follow what was paid for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from services.auth.actions._assign_seats import fit_to_seats
from services.auth.domain.audit import AuditEntry
from services.auth.domain.organisation import Organisation, OrganisationId
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.events import Fact
from shared.events.subscription import SubscriptionChanged
from shared.ids import UserId
from shared.values import dataclass

Facts = Sequence[Fact[SubscriptionChanged]]


@dataclass(frozen=True, slots=True)
class FollowSubscriptions:
    """Take over tiers and seats, in whatever order the facts arrive and however often."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, facts: Facts) -> None:
        of_users = [fact for fact in facts if fact.event.organisation_id is None]
        if of_users:
            await self._follow_users(of_users)
        # One transaction each, so that nobody holds two organisations while waiting for a third.
        for organisation_id, of_one in _by_organisation(facts).items():
            await self._follow_organisation(organisation_id, of_one)

    async def _follow_users(self, facts: Facts) -> None:
        async with self.unit_of_work() as work:
            unseen = await work.unseen(fact.id for fact in facts)
            newest = _newest(fact.event for fact in facts if fact.id in unseen)
            if newest:
                await work.users.set_tiers(newest, self.clock.now())

    async def _follow_organisation(self, organisation_id: OrganisationId, facts: Facts) -> None:
        latest = max((fact.event for fact in facts), key=lambda event: event.revision)
        async with self.unit_of_work() as work:
            if not await work.unseen(fact.id for fact in facts):
                return
            present = await work.organisations.hold(organisation_id)
            # One that was deleted meanwhile has nothing left to follow.
            if present is not None:
                await self._take_over(work, present, latest)

    async def _take_over(
        self, work: UnitOfWork, present: Organisation, change: SubscriptionChanged
    ) -> None:
        now = self.clock.now()
        after = present.subscribed(
            change.tier_name, change.seats, change.revision, now, next_seats=change.next_seats
        )
        if after == present:
            return
        await work.organisations.save(after)
        seated = await work.members.seated(after.id)
        lost = await fit_to_seats(work, after, now)
        if after.tier != present.tier:
            await work.users.note_tiers([member.user_id for member in seated])
        # The clock acts in the name of the organisation itself, which is nobody.
        by = None if change.user_id == after.id else UserId(change.user_id)
        await work.audit.note(
            AuditEntry.in_organisation(
                "organisation.subscribed",
                after.id,
                now,
                by=by,
                tier=after.tier,
                seats=after.seats,
                next_seats=after.next_seats,
                seats_released=lost,
            )
        )


def _newest(changes: Iterable[SubscriptionChanged]) -> Mapping[UserId, tuple[str, int]]:
    newest: dict[UserId, tuple[str, int]] = {}
    for change in sorted(changes, key=lambda change: change.revision):
        newest[UserId(change.user_id)] = (change.tier_name, change.revision)
    return newest


def _by_organisation(facts: Facts) -> Mapping[OrganisationId, Facts]:
    by_organisation: dict[OrganisationId, list[Fact[SubscriptionChanged]]] = defaultdict(list)
    for fact in facts:
        if fact.event.organisation_id is not None:
            by_organisation[OrganisationId(fact.event.organisation_id)].append(fact)
    return by_organisation
