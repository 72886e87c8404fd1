"""What Prometheus is told about money, out of a real database."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from prometheus_client import REGISTRY

from services.billing.actions import Actions
from services.billing.api.gauges import show_arrivals
from services.billing.domain.completeness import Stream
from services.billing.domain.ports import Announcement, NewUnitOfWork
from services.billing.tasks.jobs import verify_ledger
from shared.db.database import Database
from tests.support.billing import StoppedClock, a_usage

FREE = "usage.recorded.free"


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_what_has_come_and_up_to_when_that_is_all(
    actions: Actions, work: NewUnitOfWork, clock: StoppedClock, database: Database
) -> None:
    epoch = uuid4()
    await actions.record_usage([a_usage(user=uuid4(), sequence=n, epoch=epoch) for n in (1, 2, 5)])
    [stream] = await database.fetch("select producer, stream from usage_stream")
    async with work() as unit:
        there = Stream(stream["producer"], epoch, stream["stream"])
        await unit.completeness.announce([Announcement(there, 6, clock.now())])
    await database.execute("update usage_stream set last_manifest_at = $1", clock.now())
    show_arrivals(await actions.watch_arrivals())
    received = {"producer": there.producer, "stream": there.name}
    assert sample("companion_ledger_received", **received) == 3
    tier = there.name.rpartition(".")[2]
    assert sample("companion_ledger_lag_seconds", tier=tier) == 0
    assert sample("companion_ledger_oldest_gap_seconds", producer=there.producer) == 0
    await actions.request_missing_usage()
    gaps = (await actions.watch_arrivals()).gaps
    assert [(gap.first, gap.last) for gap in gaps] == [(3, 4), (6, 6)]


async def test_a_changed_record_is_found_by_the_clock(actions: Actions, database: Database) -> None:
    await actions.record_usage([a_usage(user=uuid4(), sequence=1, epoch=uuid4())])
    await actions.link_ledger()
    await verify_ledger(actions)
    assert sample("companion_chain_broken", chain="ledger") == 0
    verified_at = sample("companion_chain_verified_at_seconds", chain="ledger")
    assert verified_at is not None
    assert abs(verified_at - datetime.now(UTC).timestamp()) < 60

    async with database.connection() as connection:
        await connection.execute("alter table ledger_entry disable trigger user")
        await connection.execute("update ledger_entry set input_tokens = input_tokens + 1")
    await verify_ledger(actions)
    assert sample("companion_chain_broken", chain="ledger") == 1
