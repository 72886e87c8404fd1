"""Usage is recorded once, listed for its user, and explained."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from services.billing.actions.explain_usage import ExplainUsage
from services.billing.actions.list_usage import ExportUsage, ListUsage
from services.billing.actions.note_manifests import NoteManifests
from services.billing.actions.record_usage import RecordUsage
from services.billing.domain.errors import (
    ManifestNotAcceptable,
    UsageNotAcceptable,
    UsageRecordNotFound,
)
from services.billing.domain.period import Period
from shared.events import Fact
from shared.events.usage import UsageManifest
from shared.ids import EventId, UserId, uuid7
from tests.support.billing import (
    EPOCH,
    NOON,
    FixedPrices,
    Memory,
    a_manifest,
    a_price,
    a_speech,
    a_usage,
    an_entry,
)

ADA, GRACE = UserId(uuid4()), UserId(uuid4())
ALWAYS = Period.between(None, None)


async def test_usage_is_rated_as_it_is_recorded() -> None:
    memory = Memory()
    known, unknown = a_usage(at=NOON), a_speech(at=NOON)
    added = await RecordUsage(memory.work, FixedPrices(gpt_6_luna=205))([known, unknown])
    assert added == 2
    rated = memory.entries[known.id].rating
    assert rated is not None
    assert rated.cost == 205
    assert memory.entries[unknown.id].rating is None


async def test_the_operators_price_wins() -> None:
    memory = Memory(overrides=[a_price(since=NOON - timedelta(days=1))])
    speech = a_speech(at=NOON)
    await RecordUsage(memory.work, FixedPrices())([speech])
    rated = memory.entries[speech.id].rating
    assert rated is not None
    assert (rated.cost, rated.price_version) == (50_000, memory.overrides[0].version)


async def test_a_batch_with_an_event_that_can_not_be_true_is_refused_before_any_work() -> None:
    memory = Memory()
    with pytest.raises(UsageNotAcceptable):
        await RecordUsage(memory.work, FixedPrices())([a_usage(), a_usage(id_=uuid4())])
    assert memory.units_of_work == 0


async def test_a_manifest_is_remembered() -> None:
    memory = Memory()
    await NoteManifests(memory.work)([a_manifest(7)])
    assert [(a.stream.name, a.last_sequence) for a in memory.announced] == [
        ("usage.recorded.free", 7)
    ]


async def test_nobody_announces_in_anothers_name_or_about_other_streams() -> None:
    strange = UsageManifest(
        producer="chat", stream="key.revoked.free", epoch=EPOCH, last_sequence=1
    )
    about_keys = Fact(event=strange, subject=EPOCH, tier="free", source="chat")
    for fact in (a_manifest(7, source="voice"), about_keys, a_manifest(2**62)):
        memory = Memory()
        with pytest.raises(ManifestNotAcceptable):
            await NoteManifests(memory.work)([fact])
        assert memory.announced == []


async def test_another_users_record_looks_absent() -> None:
    entry = an_entry(user=ADA)
    explain = ExplainUsage(Memory({entry.event_id: entry}).work)
    assert await explain(entry.event_id, by=ADA) == entry
    for event_id, user in ((entry.event_id, GRACE), (EventId(uuid7()), ADA)):
        with pytest.raises(UsageRecordNotFound):
            await explain(event_id, by=user)


async def test_an_export_has_every_entry_once_across_its_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.billing.actions.list_usage.EXPORT_PAGE", 3)
    # Some happened at the same moment: the id then decides.
    entries = [an_entry(user=ADA, at=NOON + timedelta(seconds=n // 4)) for n in range(10)]
    memory = Memory({entry.event_id: entry for entry in [*entries, an_entry(user=GRACE)]})
    export = ExportUsage(ListUsage(memory.work))
    pages = [page async for page in export(ADA, period=ALWAYS, after=None, most=None)]
    found = [entry.event_id for page in pages for entry in page]
    assert sorted(found) == sorted(entry.event_id for entry in entries)
    assert [len(page) for page in pages] == [3, 3, 3, 1]
    assert memory.units_of_work == 4


async def test_an_export_ends_where_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.billing.actions.list_usage.EXPORT_PAGE", 3)
    entries = [an_entry(user=ADA) for _ in range(10)]
    memory = Memory({entry.event_id: entry for entry in entries})
    export = ExportUsage(ListUsage(memory.work))
    pages = [page async for page in export(ADA, period=ALWAYS, after=None, most=5)]
    assert [len(page) for page in pages] == [3, 2]
