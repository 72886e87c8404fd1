"""Nobody pays for an account that is gone; the books stay."""

from __future__ import annotations

from uuid import uuid4

from services.billing.actions.change_subscription import GrantSubscription
from services.billing.actions.forget_user import ForgetUser
from services.billing.actions.record_usage import RecordUsage
from services.billing.providers.list_prices import PublicPrices
from shared.erasure import ErasureId
from shared.ids import UserId
from tests.support.billing import Memory, StoppedClock, a_usage

ada, staff = UserId(uuid4()), UserId(uuid4())
ERASURE = ErasureId(uuid4())


async def test_a_paid_subscription_ends_and_is_dropped() -> None:
    memory, clock = Memory(), StoppedClock()
    await GrantSubscription(memory.work, clock)(ada, "pro", None, by=staff)

    await ForgetUser(memory.work, clock).begin([(ada, ERASURE)])

    assert memory.kept == {}
    assert [change.tier_name for change, _ in memory.changes] == ["pro", "free"]


async def test_usage_stays_in_the_ledger_and_late_usage_still_enters_it() -> None:
    memory = Memory()
    record = RecordUsage(memory.work, PublicPrices())
    await record([a_usage(user=ada)])
    await ForgetUser(memory.work, StoppedClock()).begin([(ada, ERASURE)])
    await record([a_usage(user=ada)])
    assert len(memory.entries) == 2


async def test_who_never_chose_is_forgotten_without_a_trace() -> None:
    memory = Memory()
    await ForgetUser(memory.work, StoppedClock()).begin([(ada, ERASURE)])
    assert (memory.kept, memory.changes) == ({}, [])
    assert memory.forgotten.rows[ada].done_at is not None
