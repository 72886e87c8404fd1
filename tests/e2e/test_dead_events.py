"""An event that was put aside comes back by an operator's hand, and counts once."""

from __future__ import annotations

import asyncio
import json

import pytest

from shared.ids import uuid7
from tests.support.suite import Person, Suite, eventually

pytestmark = pytest.mark.e2e


async def test_a_dead_event_is_listed_shown_and_sent_again(suite: Suite, ada: Person) -> None:
    await ada.ask("hello")
    await eventually(ada.usage, lambda seen: seen["requests"] == 1)
    ((envelope,),) = suite.rows(
        "chat",
        "select envelope from outbox_sent where stream = 'usage.recorded.free'"
        " and envelope->>'subject' = %s",
        ada.id,
    )
    lost = json.dumps({**envelope, "id": str(uuid7())})
    ((number,),) = suite.rows(
        "billing",
        "insert into dead_event (task, reason, body)"
        " values ('usage.recorded', 'handler_failed: Test', %s) returning id",
        lost,
    )

    async def companion(*words: str) -> tuple[int, str]:
        done = await asyncio.to_thread(suite.command, "events", *words)
        return done.returncode, done.stdout

    code, listed = await companion("list", "billing")
    assert code == 1
    assert "handler_failed: Test" in listed
    code, shown = await companion("show", "billing", str(number))
    assert (code, ada.id in shown) == (0, True)
    assert await companion("replay", "billing", str(number)) == (0, "Sent to billing.usage.free.\n")
    await eventually(ada.usage, lambda seen: seen["requests"] == 2)
    assert (await companion("replay", "billing", str(number)))[0] == 0
    code, listed = await companion("list", "billing")
    assert (code, listed) == (0, "No dead events wait.\n")

    assert (await ada.usage())["requests"] == 2
