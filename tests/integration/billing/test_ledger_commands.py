"""`companion ledger` against a real ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.companion.commands.ledger import app
from deploy.companion.errors import CompanionError
from deploy.companion.ledger import chains_of
from services.billing.domain.ledger_chain import CORRECTIONS, chain_of
from services.billing.settings import Settings
from services.billing.wiring import wire
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
    assert companion("archive", "list").output == "Nothing is archived.\n"
    assert companion("archive", "verify").exit_code == 0


def test_partitions_are_named_by_day_or_month() -> None:
    first = chain_of(id_made_at(datetime(2026, 12, 1, tzinfo=UTC)))
    assert chains_of("2026-12-01") == range(first, first + 1)
    assert chains_of("ledger_entry_2026_12") == range(first, first + 31)
    assert chains_of("corrections") == range(CORRECTIONS, CORRECTIONS + 1)
    for wrong in ("2026", "2026-13", "2026-02-30", "x"):
        with pytest.raises(CompanionError):
            chains_of(wrong)
