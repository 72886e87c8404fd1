"""An event that was put aside comes back by an operator's hand, and counts once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest

from deploy.companion import dead_letters
from deploy.companion.errors import CompanionError
from deploy.companion.servers import Servers
from shared.ids import uuid7
from shared.messaging import batch as batches
from shared.messaging.publisher import NotSent, Publisher
from tests.support.suite import Person, Suite, eventually

pytestmark = pytest.mark.e2e


async def test_a_dead_event_is_listed_shown_and_sent_again(suite: Suite, ada: Person) -> None:
    number = put_aside(suite, "handler_failed: Test", await a_use(suite, ada))
    code, listed = await companion(suite, "list", "billing")
    assert code == 1
    assert "handler_failed: Test" in listed
    code, shown = await companion(suite, "show", "billing", str(number))
    assert (code, ada.id in shown) == (0, True)
    sent = (0, "Sent to billing.usage.free.\n")
    assert await companion(suite, "replay", "billing", str(number)) == sent
    await eventually(ada.usage, lambda seen: seen["requests"] == 2)
    assert (await companion(suite, "replay", "billing", str(number)))[0] == 0
    code, listed = await companion(suite, "list", "billing")
    assert (code, listed) == (0, "No dead events wait.\n")

    assert (await ada.usage())["requests"] == 2


async def test_one_of_a_tier_that_is_no_more_goes_by_the_default_ones_queue(
    suite: Suite, ada: Person
) -> None:
    lost = {**await a_use(suite, ada), "tier": "platinum"}
    number = put_aside(suite, "handler_failed: Test", lost)
    sent = (0, "Sent to billing.usage.free.\n")
    assert await companion(suite, "replay", "billing", str(number)) == sent
    await eventually(ada.usage, lambda seen: seen["requests"] == 2)


async def test_of_a_batch_that_ended_its_worker_each_event_is_sent_again_and_counts_once(
    suite: Suite, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = await a_use(suite, ada)
    lost = [{**use, "id": str(uuid7())} for _ in range(3)]
    number = put_aside(suite, "process_lost", wrapped(lost))
    # The operator's connection breaks after the first one: all of it still waits.
    addresses = suite.installation.addresses()
    servers = Servers(addresses.database_url, addresses.broker_url)
    with monkeypatch.context() as patch:
        patch.setattr(dead_letters, "Publisher", _BreaksAfterTheFirst)
        with pytest.raises(CompanionError):
            await dead_letters.replay(servers, "billing", number)
    await eventually(ada.usage, lambda seen: seen["requests"] == 2)
    assert (await companion(suite, "list", "billing"))[0] == 1

    sent = (0, "Sent 3 to billing.usage.free.\n")
    assert await companion(suite, "replay", "billing", str(number)) == sent
    await eventually(ada.usage, lambda seen: seen["requests"] == 4)
    assert await companion(suite, "replay", "billing", str(number)) == sent
    assert (await companion(suite, "list", "billing"))[0] == 0
    # Behind them in the same queue: once it counts, they have come for the second time.
    behind = put_aside(suite, "handler_failed: Test", {**use, "id": str(uuid7())})
    assert (await companion(suite, "replay", "billing", str(behind)))[0] == 0
    await eventually(ada.usage, lambda seen: seen["requests"] >= 5)
    assert (await ada.usage())["requests"] == 5
    assert entries(suite, lost) == 3


async def test_what_is_shown_of_a_batch_names_its_events_and_nobody(
    suite: Suite, ada: Person
) -> None:
    use = await a_use(suite, ada)
    lost = [{**use, "id": str(uuid7()), "producerseq": n} for n in (7, 8)]
    number = put_aside(suite, "process_lost", wrapped(lost))
    try:
        _, listed = await companion(suite, "list", "billing")
        assert "process_lost (2 of usage.recorded.free)\n" in listed
        code, shown = await companion(suite, "show", "billing", str(number))
        told = [f"{one['id']}  {one['time']}  {one['producerseq']}" for one in lost]
        assert (code, shown.splitlines()[2:]) == (0, told)
        assert ada.id not in shown
    finally:
        forget(suite, number)


async def put_aside_changed(
    suite: Suite, person: Person, reason: str
) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """A batch of one use that was changed on its way: its number, what came, and the use."""
    use = await a_use(suite, person)
    wire = {**wrapped([use]), "events": [{**use, "subject": str(uuid4())}]}
    return put_aside(suite, reason, wire), wire, use


@pytest.mark.parametrize("reason", ["process_lost", "unreadable_batch: the hash does not fit"])
async def test_a_batch_that_was_changed_is_shown_as_it_came_and_not_sent_again(
    suite: Suite, ada: Person, reason: str
) -> None:
    number, wire, use = await put_aside_changed(suite, ada, reason)
    try:
        assert await companion(suite, "replay", "billing", str(number)) == (1, "")
        code, shown = await companion(suite, "show", "billing", str(number))
        assert (code, wire["sha256"] in shown) == (0, True)
        assert reason in (await companion(suite, "list", "billing"))[1]
        assert entries(suite, [use]) == 0
    finally:
        forget(suite, number)


@pytest.mark.parametrize("reason", ["process_lost", "unreadable_batch: the hash does not fit"])
async def test_what_can_never_be_sent_again_is_closed_with_a_reason(
    suite: Suite, ada: Person, reason: str
) -> None:
    number, *_ = await put_aside_changed(suite, ada, reason)
    try:
        close = ("close", "billing", str(number), "--reason")
        assert await companion(suite, *close, " ") == (1, "")
        assert (await companion(suite, "list", "billing"))[0] == 1
        said = f"Nobody waits for dead event {number} of billing any more.\n"
        assert await companion(suite, *close, "it came again whole") == (0, said)
        assert await companion(suite, "list", "billing") == (0, "No dead events wait.\n")
        _, listed = await companion(suite, "list", "billing", "--all")
        assert "  closed " in listed
        assert "it came again whole" in listed
        assert await companion(suite, *close, "twice") == (1, "")
        assert await companion(suite, "replay", "billing", str(number)) == (1, "")
    finally:
        forget(suite, number)


async def test_what_can_be_sent_again_is_not_closed(suite: Suite, ada: Person) -> None:
    number = put_aside(suite, "handler_failed: Test", await a_use(suite, ada))
    try:
        close = ("close", "billing", str(number), "--reason", "no hurry")
        assert await companion(suite, *close) == (1, "")
        assert (await companion(suite, "list", "billing"))[0] == 1
    finally:
        forget(suite, number)


class _BreaksAfterTheFirst(Publisher):
    sent = 0

    def send_to_queue(self, queue: str, type_: str, batch: Mapping[str, Any]) -> None:
        if self.sent:
            raise NotSent("OperationalError")
        super().send_to_queue(queue, type_, batch)
        self.sent += 1


async def a_use(suite: Suite, person: Person) -> dict[str, Any]:
    """What would be told of the person's second use; the first one counts already."""
    await person.ask("hello")
    await eventually(person.usage, lambda seen: seen["requests"] == 1)
    ((envelope,),) = suite.rows(
        "chat",
        "select envelope from outbox_sent where stream = 'usage.recorded.free'"
        " and envelope->>'subject' = %s",
        person.id,
    )
    return {**envelope, "id": str(uuid7())}


def wrapped(envelopes: list[dict[str, Any]]) -> dict[str, Any]:
    """As a relay of chat's would send them."""
    return batches.to_wire("chat", uuid4(), [{"producerseq": None, **one} for one in envelopes])


def put_aside(suite: Suite, reason: str, body: Mapping[str, Any]) -> int:
    """Billing has a dead event more; answers its number."""
    ((number,),) = suite.rows(
        "billing",
        "insert into dead_event (task, reason, body)"
        " values ('usage.recorded', %s, %s) returning id",
        reason,
        json.dumps(body),
    )
    return int(number)


def forget(suite: Suite, number: int) -> None:
    suite.rows("billing", "delete from dead_event where id = %s returning id", number)


def entries(suite: Suite, envelopes: list[dict[str, Any]]) -> int:
    """How many of them stand in the ledger."""
    ((count,),) = suite.rows(
        "billing",
        "select count(*) from ledger_entry where event_id = any(%s::uuid[])",
        [one["id"] for one in envelopes],
    )
    return int(count)


async def companion(suite: Suite, *words: str) -> tuple[int, str]:
    """`companion events …`: its exit code and what it said."""
    done = await asyncio.to_thread(suite.command, "events", *words)
    return done.returncode, done.stdout
