"""Usage that comes long after it was used is on no invoice before two people have said so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY

from services.billing.actions import Actions
from services.billing.api.gauges import refresh_aged_usage
from services.billing.domain.aged_usage import AgedGroup, AgedUsage
from services.billing.domain.archive import Partition
from services.billing.domain.closing import Month
from services.billing.domain.errors import (
    AgedUsageChanged,
    InvoiceNotFound,
    SecondPersonNeeded,
)
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.subscription import Holder
from services.billing.settings import Settings
from shared.ids import UserId
from tests.integration.billing.harness import Billing, actions_on
from tests.integration.billing.test_invoice_api import books_of
from tests.integration.billing.test_invoices import ALWAYS, kinds
from tests.support.billing import (
    FixedPrices,
    StoppedClock,
    id_made_at,
)
from tests.support.billing_invoices import STAFF, Books

AUGUST, SEPTEMBER, OCTOBER = (Month.named(f"2026-{month}") for month in ("08", "09", "10"))
IN_AUGUST, IN_SEPTEMBER = (datetime(2026, m, 10, tzinfo=UTC) for m in (8, 9))
OTHER, THIRD = UserId(uuid4()), UserId(uuid4())
WHY = "Their outbox was found on an old disk."

NOT_INVOICED = "some of it is on no invoice yet"

Wired = Callable[[int], Books]


@pytest.fixture
def wired(work: NewUnitOfWork, clock: StoppedClock, settings: Callable[..., Settings]) -> Wired:
    """Billing with that many days."""

    def books(days: int) -> Books:
        actions: Actions = actions_on(
            work, settings(aged_usage_days=days), clock, list_prices=FixedPrices(gpt_6_luna=205)
        )
        return Books(actions, work)

    return books


@pytest.fixture
async def books(wired: Wired) -> Books:
    """August is invoiced, and everything of pro costs its holder what it costs."""
    books = wired(35)
    await books.fee("pro", 10_000, since=ALWAYS)
    await books.close_and_run(AUGUST)
    return books


async def waiting(books: Books) -> AgedUsage:
    [usage] = await books.actions.list_aged_usage()
    return usage


async def approve(books: Books, group: AgedGroup, by: UserId) -> bool:
    return await books.actions.approve_aged_usage(group, by=by, reason=WHY)


async def late_lines(books: Books, user: UUID) -> list[tuple[str, int]]:
    lines = [line for invoice in await books.invoices_of(user) for line in kinds(invoice)]
    return [(kind, amount) for kind, amount in lines if kind in ("late_usage", "correction")]


async def hindrance(work: NewUnitOfWork) -> str | None:
    """Why August is not archived."""
    begins, ends = (id_made_at(at - timedelta(days=1)) for at in (IN_AUGUST, IN_SEPTEMBER))
    august = Partition("ledger_entry", begins, ends)
    async with work() as open_work:
        return await open_work.archive.hindrance(august)


async def test_it_waits_in_the_ledger_until_two_people_have_approved_it(books: Books) -> None:
    ada = UserId(uuid4())
    for _ in range(2):
        await books.use(ada, at=IN_AUGUST, tier="pro")
    await books.use(ada, at=IN_AUGUST, tier="pro", model="dark-horse")
    await books.use(ada, at=IN_AUGUST, tier="pro", sandbox=True)
    await books.use(ada, at=IN_SEPTEMBER, tier="pro")
    listed = await waiting(books)
    assert (listed.group.user_id, listed.group.month, listed.group.producer) == (
        *(ada, AUGUST, "chat"),
    )
    assert (listed.events, listed.unpriced, listed.cost_microusd) == (3, 1, 410)
    assert (listed.used_from, listed.used_until) == (IN_AUGUST, IN_AUGUST)
    draft = await books.actions.preview_invoice(Holder(ada), SEPTEMBER)
    assert "late_usage" not in dict(kinds(draft))

    await books.close_and_run(SEPTEMBER)
    assert await late_lines(books, ada) == []
    assert await waiting(books) == listed
    assert not await approve(books, listed.group, STAFF)
    assert ((await waiting(books)).approved_by, (await waiting(books)).approval_reason) == (
        *(STAFF, WHY),
    )
    with pytest.raises(SecondPersonNeeded):
        await approve(books, listed.group, STAFF)
    assert await approve(books, listed.group, OTHER)
    assert await books.actions.list_aged_usage() == []

    draft = await books.actions.preview_invoice(Holder(ada), OCTOBER)
    assert ("late_usage", 410) in kinds(draft)
    await books.close_and_run(OCTOBER)
    assert sorted(await late_lines(books, ada)) == [("late_usage", 0), ("late_usage", 410)]
    for invoice in await books.invoices_of(ada):
        assert (await books.actions.verify_invoice(invoice.id)).is_sound
    with pytest.raises(AgedUsageChanged):
        await approve(books, listed.group, THIRD)


async def test_the_team_is_told_what_waits(books: Books) -> None:
    async def told() -> float | None:
        await refresh_aged_usage(books.actions)
        return REGISTRY.get_sample_value("companion_billing_aged_usage_events")

    assert await told() == 0
    ada, grace = UserId(uuid4()), UserId(uuid4())
    for _ in range(2):
        await books.use(ada, at=IN_AUGUST, tier="pro")
    await books.use(ada, at=IN_SEPTEMBER, tier="pro")
    ada_s = (await waiting(books)).group
    await books.use(grace, at=IN_AUGUST, tier="pro")
    assert await told() == 3
    await approve(books, ada_s, STAFF)
    assert await told() == 3
    await approve(books, ada_s, OTHER)
    assert await told() == 1
    await books.actions.refuse_aged_usage((await waiting(books)).group, by=STAFF, reason=WHY)
    assert await told() == 0


async def test_nobody_decides_about_what_they_have_not_seen(books: Books) -> None:
    ada = UserId(uuid4())
    await books.use(ada, at=IN_AUGUST, tier="pro")
    seen = (await waiting(books)).group
    await books.use(ada, at=IN_AUGUST, tier="pro")
    for decide in (books.actions.approve_aged_usage, books.actions.refuse_aged_usage):
        with pytest.raises(AgedUsageChanged):
            await decide(seen, by=STAFF, reason=WHY)
    both = (await waiting(books)).group
    assert not await approve(books, both, STAFF)
    # What comes between the two approvals has none.
    await books.use(ada, at=IN_AUGUST, tier="pro")
    assert await approve(books, both, OTHER)
    left = await waiting(books)
    assert (left.events, left.approved_by) == (1, None)
    await books.close_and_run(SEPTEMBER)
    assert await late_lines(books, ada) == [("late_usage", 410)]


async def test_what_is_refused_is_voided_and_on_no_invoice(
    books: Books, work: NewUnitOfWork
) -> None:
    ada = UserId(uuid4())
    ids = [await books.use(ada, at=IN_AUGUST, tier="pro") for _ in range(2)]
    group = (await waiting(books)).group
    await books.actions.link_ledger()
    assert await hindrance(work) == NOT_INVOICED
    await approve(books, group, STAFF)
    assert await books.actions.refuse_aged_usage(group, by=OTHER, reason=WHY) == (2, 0)
    assert await books.actions.list_aged_usage() == []
    life = await books.actions.explain_usage.with_corrections(ids[0], by=ada)
    [correction] = life.corrections
    assert (correction.kind, correction.reason, correction.made_by) == ("voided", WHY, OTHER)
    for month in (SEPTEMBER, OCTOBER):
        await books.close_and_run(month)
    assert await books.invoices_of(ada) == []
    with pytest.raises(InvoiceNotFound):
        await books.actions.preview_invoice(Holder(ada), Month.named("2026-11"))
    # Nothing of it will ever be invoiced, so it is no reason to keep it out of the archive.
    assert await hindrance(work) != NOT_INVOICED


async def test_a_correction_waits_with_what_it_corrects(books: Books) -> None:
    ada = UserId(uuid4())
    await books.adjust(await books.use(ada, at=IN_AUGUST, tier="pro"), -5)
    with pytest.raises(InvoiceNotFound):
        await books.actions.preview_invoice(Holder(ada), SEPTEMBER)
    await books.close_and_run(SEPTEMBER)
    assert await books.invoices_of(ada) == []
    group = (await waiting(books)).group
    await approve(books, group, STAFF)
    await approve(books, group, OTHER)
    await books.close_and_run(OCTOBER)
    assert await late_lines(books, ada) == [("late_usage", 205), ("correction", -5)]


async def test_another_number_of_days_loses_nothing(books: Books, wired: Wired) -> None:
    ada = UserId(uuid4())
    await books.use(ada, at=IN_AUGUST, tier="pro")
    await books.close_and_run(SEPTEMBER)
    for days in (0, 400):
        lenient = wired(days)
        assert (await waiting(lenient)).events == 1
    await lenient.use(ada, at=IN_AUGUST, tier="pro")
    assert (await waiting(lenient)).events == 1
    group = (await waiting(lenient)).group
    await approve(lenient, group, STAFF)
    await approve(lenient, group, OTHER)
    await lenient.close_and_run(OCTOBER)
    assert await late_lines(lenient, ada) == [("late_usage", 410)]


async def test_the_billing_team_decides_through_its_doors(billing: Billing) -> None:
    books, ada = books_of(billing), uuid4()
    event_id = await books.use(ada, at=IN_AUGUST, tier="pro")
    await billing.database.execute("insert into aged_usage values ($1, now())", event_id)
    listed = await billing.send("GET", "admin/aged-usage", STAFF, role="billing")
    [mine] = [one for one in listed.json()["data"] if one["user_id"] == str(ada)]
    assert (mine["month"], mine["events"], mine["approved_by"]) == ("2026-08", 1, None)
    named = {name: mine[name] for name in ("user_id", "month", "producer", "ids")}

    async def say(what: str, by: UUID, role: str = "billing") -> tuple[int, dict[str, object]]:
        answer = await billing.send(
            "POST", f"admin/aged-usage/{what}", by, role=role, json={**named, "reason": WHY}
        )
        return answer.status_code, answer.json()

    assert (await say("approve", STAFF, "member"))[0] == 403
    assert await say("approve", STAFF) == (200, {"released": False})
    status, problem = await say("approve", STAFF)
    assert (status, problem["code"]) == (409, "second_person_needed")
    assert await say("approve", OTHER) == (200, {"released": True})
    status, problem = await say("refuse", OTHER)
    assert (status, problem["code"]) == (409, "aged_usage_changed")
