"""Usage as files: by the API, and each day at the place that the operator chose."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import S3FileSystem

from services.billing.actions import Actions
from services.billing.actions.archive_ledger import ArchiveLedger
from services.billing.actions.export_days import ExportDays
from services.billing.actions.export_records import ReadRows
from services.billing.actions.report_outside_usage import Told
from services.billing.api.gauges import LAST_EXPORTED_DAY, show_exports
from services.billing.domain.correction import Deltas
from services.billing.domain.export_target import check_target
from services.billing.domain.outside_usage import OutsideEvent
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import UnitPrices
from services.billing.domain.usage_export import COLUMNS, METERS, OWN_COLUMNS, Day
from services.billing.providers.archived_rows import ArchivedUsage
from services.billing.providers.export_target import open_target
from services.billing.providers.parquet_archive import ParquetArchive
from services.billing.storage.usage_rows import _CORRECTIONS_OF, _CORRECTIONS_WITHIN
from services.billing.wiring import FORMATS
from shared.db.archive import ids_digest
from shared.db.database import Database
from shared.ids import UserId
from tests.integration.billing.harness import Billing
from tests.support.billing import NOON, StoppedClock, a_speech, a_usage, id_made_at
from tests.support.billing_invoices import settle

CSV, NDJSON, PARQUET = "text/csv", "application/x-ndjson", "application/vnd.apache.parquet"
STAFF = UserId(uuid4())


def at(hour: int, *, days_ago: int = 1) -> datetime:
    return NOON.replace(hour=hour) - timedelta(days=days_ago)


def used(hour: int, *, days_ago: int = 1, **facts: Any) -> Any:
    moment = at(hour, days_ago=days_ago)
    return a_usage(id_=id_made_at(moment), at=moment, **facts)


# By the API


async def test_a_users_file_has_its_corrections_in_every_format(billing: Billing) -> None:
    ada = uuid4()
    usage = [a_usage(user=ada) for _ in range(3)]
    await billing.record(*usage)
    voided = {"event_id": str(usage[1].id), "reason": "=tested"}
    answer = await billing.send(
        "POST",
        "admin/adjustments",
        uuid4(),
        role="billing",
        json=voided,
        headers={"idempotency-key": "one"},
    )
    assert answer.status_code == 201, answer.text
    files = {
        type_: (await billing.get("usage/records", ada, headers={"accept": type_})).content
        for type_ in (CSV, NDJSON, PARQUET)
    }
    rows = pq.read_table(io.BytesIO(files[PARQUET])).to_pylist()
    assert list(rows[0]) == list(OWN_COLUMNS)
    assert sorted(row["record"] for row in rows) == ["usage", "usage", "usage", "voided"]
    assert sum(row["requests"] for row in rows) == 2
    assert sum(row["cost_microusd"] for row in rows) == 410
    table = list(csv.DictReader(io.StringIO(files[CSV].decode())))
    lines = [json.loads(line) for line in files[NDJSON].splitlines()]
    ids = sorted((row["event_id"], row["correction_id"] or "") for row in rows)
    assert ids == sorted((row["event_id"], row["correction_id"]) for row in table)
    assert ids == sorted((row["event_id"], row["correction_id"] or "") for row in lines)


async def test_the_billing_team_gets_everybodys_usage_of_a_period(billing: Billing) -> None:
    moment = datetime(2027, 3, 5, 12, tzinfo=NOON.tzinfo)
    usage = [a_usage(at=moment + timedelta(hours=n), id_=id_made_at(moment)) for n in range(-1, 14)]
    await billing.record(*usage)
    wanted = {"from": "2027-03-05", "to": "2027-03-05", "format": "parquet"}
    asked = await billing.send("POST", "admin/exports", STAFF, role="billing", json=wanted)
    assert asked.status_code == 201, asked.text
    body = asked.json()
    assert (body["from"], body["to"]) == ("2027-03-05T00:00:00Z", "2027-03-06T00:00:00Z")
    assert body["asked_by"] == str(STAFF)
    await billing.record(a_usage(at=moment))  # comes later, and is in the next one
    path = body["url"].removeprefix("/billing/")
    for _ in range(2):
        file = await billing.send("GET", path, STAFF, role="billing")
        rows = pq.read_table(io.BytesIO(file.content)).to_pylist()
        within = {str(fact.id) for fact in usage if fact.time.day == 5}
        assert {row["event_id"] for row in rows} == within
        assert list(rows[0]) == list(COLUMNS)
    listed = await billing.send("GET", "admin/exports", STAFF, role="billing", params={"limit": 1})
    assert listed.json()["data"] == [body]
    shown = await billing.send("GET", f"admin/exports/{body['id']}", STAFF, role="billing")
    assert shown.json() == body


@pytest.mark.parametrize(
    "path", ["admin/exports", "admin/exports/0198c0de-0000-7000-8000-00000000e0e0/file"]
)
async def test_nobody_else_gets_it(billing: Billing, path: str) -> None:
    answer = await billing.send("GET", path, uuid4())
    assert (answer.status_code, answer.json()["code"]) == (403, "not_billing_staff")


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"from": "2027-03-05"},
        {"from": "2027-03-05", "to": "yesterday"},
        {"from": "2027-03-05", "to": "2027-03-01"},
        {"from": "2027-03-05T00:00:00Z", "to": "2027-03-05T00:00:00Z"},
        {"from": "2027-03-05", "to": "2027-03-05", "format": "xlsx"},
        {"from": "2027-03-05", "to": "2027-03-05", "more": 1},
    ],
)
async def test_what_is_no_export_is_refused(billing: Billing, wanted: dict[str, str]) -> None:
    answer = await billing.send("POST", "admin/exports", STAFF, role="billing", json=wanted)
    assert answer.status_code == 422
    gone = await billing.send("GET", f"admin/exports/{uuid4()}", STAFF, role="billing")
    assert (gone.status_code, gone.json()["code"]) == (404, "export_not_found")


async def test_what_lies_in_the_archive_is_in_the_file(
    actions: Actions,
    work: NewUnitOfWork,
    database: Database,
    clock: StoppedClock,
    tmp_path: Path,
) -> None:
    day = datetime(2031, 5, 6, tzinfo=NOON.tzinfo)
    await database.execute("select prepare_ledger_day($1, $1)", day.date())
    moments = [day + timedelta(minutes=n) for n in range(4)]
    usage = [make(id_=id_made_at(m), at=m) for m in moments for make in (a_usage, a_speech)]
    nothing: dict[str, Any] = {
        "input_tokens": 0,
        "cache_read_tokens": 0,
        "output_tokens": 0,
        "cached": True,
    }
    usage.append(a_usage(id_=id_made_at(moments[0]), at=moments[0], **nothing))
    await actions.record_usage(usage)
    clock.forward(day + timedelta(hours=1) - clock.now())
    shots = OutsideEvent(STAFF, "/shots", "one", UserId(uuid4()), day, "screenshot", Decimal(10))
    await actions.report_outside_usage([Told(0, shots, {})], reporter=STAFF, for_anybody=True)
    [entry] = await database.fetch("select event_id from ledger_entry where units = 10")
    await actions.correct_usage(entry["event_id"], None, reason="made twice", by=STAFF)
    await actions.link_ledger()
    prices = UnitPrices(characters=1_000_000)
    speech = ("elevenlabs", "eleven_flash_v2_5")
    await actions.set_price(speech, prices, effective_from=day - timedelta(days=1), by=STAFF)
    clock.forward(day + timedelta(days=100) - clock.now())
    await actions.rate_unpriced_usage()
    await actions.link_ledger()
    await database.execute(
        "insert into period (month, closed_at, closed_by, waived, totals, digest)"
        " values ('2031-05-01', now(), $1, '[]', '{}', '')",
        STAFF,
    )
    await settle(actions, database)
    files = ParquetArchive(tmp_path)
    read = ReadRows(work, ArchivedUsage(files))
    period = Period(day, day + timedelta(days=1))
    before = [row async for page in read.within(period, up_to=None) for row in page]
    assert len(before) == 11
    assert sorted((row["units"], row["unit"]) for row in before)[0] == (-10, "screenshot")
    assert sum(row["units"] for row in before) == 0
    assert [row["event_id"] for row in before if row["cached"]] == [usage[-1].id]
    assert await ArchiveLedger(work, files, clock, timedelta(days=95))() != []
    assert await database.fetch("select 1 from ledger_entry") == []
    after = [row async for page in read.within(period, up_to=None) for row in page]
    key = lambda row: (row["event_id"], row["record"])  # noqa: E731
    assert sorted(after, key=key) == sorted(before, key=key)
    narrow = Period(moments[1], moments[3])
    assert len([1 async for page in read.within(narrow, up_to=None) for _ in page]) == 4


# Days at a target


@pytest.fixture
def exporting(work: NewUnitOfWork, clock: StoppedClock) -> Callable[..., ExportDays]:
    def make(url: str, *formats: Any) -> ExportDays:
        target = open_target(check_target(url))
        read = ReadRows(work, None)
        return ExportDays(work, read, target, FORMATS, formats or ("parquet",), clock)

    return make


def manifest_in(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "_manifest.json").read_text())
    for file in document["files"]:
        content = (folder / file["name"]).read_bytes()
        assert file["bytes"] == len(content)
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert document["written_at"].endswith("Z")
    return document


async def test_a_day_that_is_over_lies_there_with_its_manifest(
    exporting: Callable[..., ExportDays], actions: Actions, tmp_path: Path, clock: StoppedClock
) -> None:
    usage = [used(hour) for hour in range(5)] + [used(6, sandbox=True)]
    await actions.record_usage([*usage, used(1, days_ago=0)])
    await actions.link_ledger()
    export = exporting(tmp_path.as_uri(), "csv", "ndjson", "parquet")
    assert await export() == 1
    folder = tmp_path / "usage" / "day=2026-11-23"
    manifest = manifest_in(folder)
    heads, _ = await actions.show_ledger()
    assert manifest["chain"]["head"] == str(heads[manifest["chain"]["number"]])
    assert (manifest["day"], manifest["revision"], manifest["rows"]) == ("2026-11-23", 1, 6)
    assert manifest["complete"], manifest["incomplete_because"]
    assert manifest["sums"]["live"]["requests"] == 5
    assert manifest["sums"]["live"]["input_tokens"] == 6_000
    assert manifest["sums"]["sandbox"]["cost_microusd"] == 205
    table = pq.read_table(folder / "part-000.parquet")
    assert table.column_names[: len(COLUMNS)] == list(COLUMNS)
    assert set(table["event_id"].to_pylist()) == {str(fact.id) for fact in usage}
    assert len((folder / "part-000.csv").read_text().splitlines()) == 7
    assert len((folder / "part-000.ndjson").read_text().splitlines()) == 6
    assert {path.name for path in folder.iterdir()} == {
        *("_manifest.json", "part-000.csv", "part-000.ndjson", "part-000.parquet")
    }
    assert await export() == 0


async def test_a_day_whose_archive_cannot_be_read_keeps_no_other_away(
    exporting: Callable[..., ExportDays], actions: Actions, database: Database, tmp_path: Path
) -> None:
    await actions.record_usage([used(3)])
    await actions.link_ledger()
    chain = Day(NOON.date() - timedelta(days=200)).chain
    await database.execute(
        "insert into ledger_archive (partition, begins, ends, first_chain, last_chain, state,"
        " changed_at) values ('gone', $1, $1, $2, $2 + 30, 'dropped', now())",
        uuid4(),
        chain,
    )
    export = exporting(tmp_path.as_uri())
    assert [await export() for _ in range(2)] == [0, 1]
    assert (tmp_path / "usage" / "day=2026-11-23" / "_manifest.json").exists()
    [failing] = await database.fetch(
        "select count(*) as days from usage_export_day where failed_at is not null"
    )
    assert failing["days"] == 31


async def test_late_usage_and_corrections_bring_a_new_revision(
    exporting: Callable[..., ExportDays], actions: Actions, tmp_path: Path, clock: StoppedClock
) -> None:
    first = used(3)
    await actions.record_usage([first])
    await actions.link_ledger()
    export = exporting(tmp_path.as_uri())
    folder = tmp_path / "usage" / "day=2026-11-23"
    assert await export() == 1
    await actions.record_usage([used(4)])
    await actions.link_ledger()
    assert await export() == 0  # an hour's changes are one revision
    clock.forward(timedelta(hours=1))
    assert await export() == 1
    assert (manifest_in(folder)["revision"], manifest_in(folder)["rows"]) == (2, 2)
    await actions.correct_usage(first.id, Deltas(cost_microusd=-5), reason="a goodwill", by=STAFF)
    clock.forward(timedelta(hours=1))
    assert await export() == 1
    manifest = manifest_in(folder)
    assert (manifest["revision"], manifest["correction_rows"]) == (3, 1)
    assert manifest["sums"]["live"]["cost_microusd"] == 405
    clock.forward(timedelta(days=1))
    assert await export() == 1  # the next day, of which there is nothing, and that is said
    empty = manifest_in(tmp_path / "usage" / "day=2026-11-24")
    assert (empty["rows"], empty["chain"]["head"]) == (0, None)
    whole = pq.read_table(tmp_path / "usage", partitioning="hive")
    assert (whole.num_rows, set(whole["day"].to_pylist())) == (3, {"2026-11-23"})


async def test_what_has_not_come_makes_a_day_incomplete_until_it_has(
    exporting: Callable[..., ExportDays],
    actions: Actions,
    database: Database,
    tmp_path: Path,
    clock: StoppedClock,
) -> None:
    await actions.record_usage([used(3, sequence=1)])
    await actions.link_ledger()
    await database.execute(
        "update usage_stream set last_seen_at = $1, last_manifest_at = $1", at(20)
    )
    export = exporting(tmp_path.as_uri())
    assert await export() == 1
    folder = tmp_path / "usage" / "day=2026-11-23"
    manifest = manifest_in(folder)
    assert not manifest["complete"]
    assert manifest["incomplete_because"] == ["producer_not_heard_since:chat/usage.recorded.free"]
    clock.forward(timedelta(hours=1))
    assert await export() == 0
    await database.execute("update usage_stream set last_manifest_at = $1", NOON)
    assert await export() == 0  # nobody told of the hour
    clock.forward(timedelta(hours=1))
    await database.execute(_TELL_THE_HOURS)
    assert await export() == 1
    manifest = manifest_in(folder)
    assert (manifest["complete"], manifest["revision"]) == (True, 2)


# What the producer would have said of each of its hours.
_TELL_THE_HOURS = f"""
insert into usage_manifest
    (producer, epoch, stream, hour, announced, announced_at, recorded, compared_at)
select producer, epoch, stream, hour, sums, now(), sums, now() from (
    select producer, producer_epoch as epoch, stream,
           date_trunc('hour', occurred_at, 'UTC') as hour,
           jsonb_build_object('events', count(*), 'ids', {ids_digest("event_id")},
               {", ".join(f"'{name}', sum({name})" for name in METERS)}) as sums
    from ledger_entry group by 1, 2, 3, 4
) as told
"""


async def test_a_target_out_of_reach_loses_nothing_and_is_told(
    exporting: Callable[..., ExportDays], actions: Actions, work: NewUnitOfWork, tmp_path: Path
) -> None:
    await actions.record_usage([used(3), used(3, days_ago=3)])
    await actions.link_ledger()
    in_the_way = tmp_path / "exports"
    in_the_way.write_text("a file where the directory should be")
    export = exporting(in_the_way.as_uri())
    assert await export() == 0
    async with work() as unit:
        assert await unit.usage_exports.last_day(export.target.name) == (None, 1)  # type: ignore[union-attr]
    show_exports((None, 1))
    assert LAST_EXPORTED_DAY._value.get() == 0
    in_the_way.unlink()
    assert await export() == 2
    assert await export() == 1  # the day between them, of which there is nothing
    days = sorted(path.name for path in (in_the_way / "usage").iterdir())
    assert days == ["day=2026-11-21", "day=2026-11-22", "day=2026-11-23"]


async def test_two_workers_write_a_day_once(
    exporting: Callable[..., ExportDays], actions: Actions, work: NewUnitOfWork, tmp_path: Path
) -> None:
    await actions.record_usage([used(3)])
    await actions.link_ledger()
    export = exporting(tmp_path.as_uri())
    assert sorted(await asyncio.gather(export(), export())) == [0, 1]


async def test_a_day_that_another_wrote_in_the_meantime_is_not_claimed(
    exporting: Callable[..., ExportDays], actions: Actions, work: NewUnitOfWork, tmp_path: Path
) -> None:
    await actions.record_usage([used(3)])
    await actions.link_ledger()
    export = exporting(tmp_path.as_uri())
    async with work() as unit:
        (seen,) = await unit.usage_exports.days(export.target.name, until=Day(at(3).date()))  # type: ignore[union-attr]
    assert await export() == 1
    now = NOON + timedelta(hours=2)
    async with work() as unit:
        claim = unit.usage_exports.claim
        name = export.target.name  # type: ignore[union-attr]
        assert not await claim(name, seen, now=now, until=now + timedelta(minutes=1))
        (known,) = await unit.usage_exports.days(name, until=Day(at(3).date()))
        assert await claim(name, known, now=now, until=now + timedelta(minutes=1))


# A bucket


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[str, S3FileSystem]]:
    """A server that speaks S3, with an empty bucket."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-key")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        files = S3FileSystem(
            endpoint_override=f"{host}:{port}",
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        files.create_dir("ledger")
        yield f"s3://ledger/eu?endpoint_override={host}:{port}&scheme=http&region=us-east-1", files
    finally:
        server.stop()


async def test_a_day_lies_in_a_bucket(
    exporting: Callable[..., ExportDays],
    actions: Actions,
    bucket: tuple[str, S3FileSystem],
    clock: StoppedClock,
) -> None:
    url, files = bucket
    usage = [used(hour) for hour in range(5)]
    await actions.record_usage(usage)
    await actions.link_ledger()
    export = exporting(url)
    assert await export() == 1
    folder = "ledger/eu/usage/day=2026-11-23"
    manifest = json.loads(files.open_input_stream(f"{folder}/_manifest.json").readall())
    content = files.open_input_stream(f"{folder}/part-000.parquet").readall()
    assert manifest["files"][0]["sha256"] == hashlib.sha256(content).hexdigest()
    assert pq.read_table(io.BytesIO(content)).num_rows == 5
    await actions.record_usage([used(7)])
    await actions.link_ledger()
    clock.forward(timedelta(hours=1))
    assert await export() == 1
    content = files.open_input_stream(f"{folder}/part-000.parquet").readall()
    assert pq.read_table(io.BytesIO(content)).num_rows == 6


async def test_a_bucket_that_is_not_there_is_told_without_any_secret(
    exporting: Callable[..., ExportDays],
    actions: Actions,
    work: NewUnitOfWork,
    bucket: tuple[str, S3FileSystem],
    caplog: pytest.LogCaptureFixture,
) -> None:
    url, files = bucket
    await actions.record_usage([used(3)])
    export = exporting(url.replace("ledger", "nowhere"))
    assert await export() == 0
    assert "usage_export_failed" in caplog.text
    assert "test-secret-key" not in caplog.text
    assert "test-access-key" not in caplog.text
    files.create_dir("nowhere")
    assert await export() == 1


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:secret@bucket/prefix",
        "s3://bucket?access_key=x",
        "s3:///prefix",
        "s3://bucket?region=",
        "file://host/path",
        "file:///",
        "/var/exports",
        "https://bucket.invalid/",
        "",
    ],
)
def test_what_names_no_place_is_refused(url: str, settings: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"target|directory|bucket") as refused:
        settings(export_target=url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        (_CORRECTIONS_OF, ([uuid4()],)),
        (
            _CORRECTIONS_WITHIN,
            (NOON, NOON + timedelta(days=31), uuid4(), None, 9),
        ),
        ("select units, unit from reporting.usage_corrections", ()),
    ],
)
async def test_what_was_voided_is_looked_up_however_large_the_ledger_is(
    database: Database, sql: str, values: tuple[object, ...]
) -> None:
    async with database.connection() as connection, connection.transaction():
        # As where there are many partitions, and looking up seems dear.
        await connection.execute("set local enable_nestloop = off")
        plan = await connection.fetch(f"explain {sql}", *values)
    assert not [line for (line,) in plan if "Hash" in line or "Merge" in line]
