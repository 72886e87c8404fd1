"""`companion ledger` against a real ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deploy.companion.commands.ledger import app
from deploy.companion.errors import CompanionError
from deploy.companion.ledger import chains_of, month_of
from services.billing.domain.archive import Contents
from services.billing.domain.closing import Month
from services.billing.domain.ledger_chain import CORRECTIONS, chain_of
from services.billing.settings import Settings
from services.billing.wiring import wire
from shared.db.database import open_database
from shared.ids import first_id_at
from shared.settings import service_database_url
from tests.support.billing import a_usage, id_made_at

DAY = datetime(2026, 11, 3, 12, tzinfo=UTC)


@pytest.fixture
def companion(
    engines: dict[str, str],
    identities: Path,
    settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Result]:
    """The command line, beside a ledger with three entries on a day."""

    async def record() -> None:
        async with wire(settings(**engines)) as wired:
            usage = [a_usage(id_=id_made_at(DAY), at=DAY) for _ in range(3)]
            await wired.actions.record_usage(usage)
            await wired.actions.link_ledger()

    asyncio.run(record())
    for name, value in {
        **{name.upper(): value for name, value in engines.items()},
        "BROKER_URL": engines["cache_url"],
        "IDENTITY_KEY_FILE": str(identities / "billing.pem"),
        "IDENTITY_TRUST_FILE": str(identities / "trusted.json"),
    }.items():
        monkeypatch.setenv(name, value)
    return lambda *words: CliRunner().invoke(app, list(words))


def test_verify_and_status_tell_the_same_end(companion: Callable[..., Result]) -> None:
    told = companion("verify", "--partition", "2026-11-03", "--json")
    assert told.exit_code == 0, told.output
    document = json.loads(told.output)
    assert document["whole"] is True
    (chain,) = document["chains"]
    assert (chain["partition"], chain["links"] % 3, chain["broken"]) == ("2026-11-03", 0, None)
    status = json.loads(companion("status", "--json").output)
    assert status["chains"]["2026-11-03"] == chain["head"]
    sequence, _, link = chain["head"].partition(":")
    later = f"2026-11-03={int(sequence) + 1}:{link}"
    cut = companion("verify", "--partition", "2026-11", "--head", later)
    assert (cut.exit_code, "cut off" in cut.output) == (1, True)
    # A head that is not looked at is no proof of anything.
    beside = companion("verify", "--partition", "2026-10", "--head", later)
    assert isinstance(beside.exception, CompanionError)
    assert companion("archive", "list").output == "Nothing is archived.\n"
    assert companion("archive", "verify").exit_code == 0


def test_what_is_not_there_is_not_told_to_be_whole(companion: Callable[..., Result]) -> None:
    # Before any month that can be closed; a sentence and no stack of calls.
    old = companion("verify", "--partition", "2019-11")
    assert (old.exit_code, old.output) == (
        *(0, "Nothing of 2019-11 is in the ledger: unused, or left for a file.\n"),
    )
    for wrong in ("2031-01", "2031-01-05", "ledger_entry_2031_01", "corrections", "ledger"):
        told = companion("archive", "verify", "--partition", wrong)
        assert isinstance(told.exception, CompanionError), wrong


ARCHIVED = """
insert into ledger_archive
    (partition, begins, ends, first_chain, last_chain, state, summary, changed_at)
values ($1, $2, $3, $4, $4, 'verified', $5, now())
"""


def test_an_archived_day_is_verified_by_its_day_and_by_its_month(
    companion: Callable[..., Result], engines: dict[str, str]
) -> None:
    first, end = (first_id_at(datetime(2024, 1, day, tzinfo=UTC)) for day in (5, 6))
    contents = Contents(1, 1, {}, {}, "ab" * 32)
    asyncio.run(
        _execute(
            engines,
            ARCHIVED,
            *("ledger_entry_2024_01_05", first, end, chain_of(first), contents.as_json()),
        )
    )
    try:
        names = ("2024-01-05", "2024-01", "ledger_entry_2024_01_05")
        told = [companion("archive", "verify", "--partition", name) for name in names]
        # It has left the ledger, and is compared with what it left for.
        asyncio.run(_execute(engines, "update ledger_archive set state = 'dropped'"))
        head = ("--head", f"2024-01-05=1:{'ab' * 32}")
        compared = [
            companion("verify", *where, *head) for where in ((), ("--partition", "2024-01"))
        ]
        told.append(companion("archive", "verify", *head))
        beside = companion("archive", "verify", "--head", f"2024-01-06=1:{'ab' * 32}")
        other = companion("archive", "verify", "--partition", "2024-01-06")
    finally:
        asyncio.run(_execute(engines, "delete from ledger_archive"))
    # Here is no folder of files, which it says.
    problem = "ledger_entry_2024_01_05  No archive directory is set.\n"
    assert [(each.exit_code, each.output) for each in told] == [(1, problem)] * 4
    for each in compared:
        assert (each.exit_code, problem.split("  ")[1] in each.output) == (1, True), each.output
    assert isinstance(beside.exception, CompanionError)
    assert isinstance(other.exception, CompanionError)


async def _execute(engines: dict[str, str], statement: str, *values: Any) -> None:
    url = service_database_url(engines["database_url"], "billing")
    async with open_database(url, connections=1, application="tests") as database:
        await database.execute(statement, *values)


def test_partitions_are_named_by_day_or_month() -> None:
    first = chain_of(id_made_at(datetime(2026, 12, 1, tzinfo=UTC)))
    assert chains_of("2026-12-01") == range(first, first + 1)
    assert chains_of("ledger_entry_2026_12") == range(first, first + 31)
    assert chains_of("corrections") == range(CORRECTIONS, CORRECTIONS + 1)
    for wrong in ("2026", "2026-13", "2026-02-30", "x"):
        with pytest.raises(CompanionError):
            chains_of(wrong)


def test_a_closed_month_is_compared_however_it_is_written() -> None:
    for name in ("2026-11", "2026_11", "ledger_entry_2026_11"):
        assert month_of(name) == Month(date(2026, 11, 1)), name
    assert [month_of(name) for name in ("2026-11-03", "corrections")] == [None, None]
    assert month_of("2019-11") == Month(date(2019, 11, 1))
    with pytest.raises(CompanionError):
        month_of("2026-13")
