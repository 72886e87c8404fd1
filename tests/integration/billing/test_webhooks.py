"""Webhooks on a real database and a real receiver: told once in effect, at least once in fact."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from services.billing.actions import Actions
from services.billing.actions.keep_webhooks import Asker, Change
from services.billing.api.gauges import show_waiting
from services.billing.api.webhook_pump import WebhookPump
from services.billing.domain.closing import Month
from services.billing.domain.correction import Deltas
from services.billing.domain.crediting import CreditRequest
from services.billing.domain.errors import (
    OrganisationBillingRequired,
    TooManyWebhooks,
    UnknownWebhookType,
    WebhookDeliveryNotFound,
    WebhookDisabled,
    WebhookNotFound,
    WebhookTestWaits,
    WebhookUrlNotAllowed,
)
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.webhook import Endpoint
from services.billing.domain.webhook_ports import WebhookBacklog
from services.billing.providers.webhook_delivery import HttpWebhookSender
from services.billing.providers.webhook_secrets import SealedSecrets
from services.billing.settings import Settings
from shared.clock import SystemClock
from shared.db.database import Database
from shared.erasure import ErasureId
from shared.ids import UserId
from tests.integration.billing.harness import actions_on
from tests.support.billing import (
    FixedOrganisations,
    StoppedClock,
    a_usage,
    id_made_at,
)
from tests.support.billing_invoices import Books, a_charge
from tests.support.webhook_receiver import (
    Receiver,
    Write,
    hang,
    receiving,
    status,
    write_webhook_keys,
)

STAFF = Asker(UserId(uuid4()), is_staff=True)
ORGANISATION = uuid4()


@pytest.fixture
def ada() -> Asker:
    return Asker(UserId(uuid4()))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return write_webhook_keys(tmp_path / "webhook-keys.json")


@pytest.fixture
def actions(
    work: NewUnitOfWork,
    clock: StoppedClock,
    settings: Callable[..., Settings],
    keys: Path,
    ada: Asker,
) -> Actions:
    actions = actions_on(
        work,
        settings(webhook_keys_file=keys, webhooks_allow_local=True),
        clock,
        organisations=FixedOrganisations({(ORGANISATION, ada.id): True}),
    )
    impatient = HttpWebhookSender(allow_local=True, total_seconds=1)
    return replace(actions, deliver_webhooks=replace(actions.deliver_webhooks, sender=impatient))


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def tell(
    work: NewUnitOfWork, whom: UUID, key: str = "x", type_: str = "limit.reached"
) -> None:
    async with work() as unit:
        await unit.webhooks.tell(UserId(whom), type_, {"key": key}, effect_key=key)


async def listen(
    actions: Actions, asker: Asker, receiver: Receiver, *types: str
) -> tuple[Endpoint, str]:
    return await actions.keep_webhooks.create(asker, receiver.url, types)


async def states(database: Database) -> list[tuple[str, int]]:
    rows = await database.fetch("select state, attempts from webhook_delivery order by id")
    return [(row["state"], row["attempts"]) for row in rows]


async def test_what_is_told_arrives_signed_once_and_only_if_it_was_committed(
    actions: Actions, work: NewUnitOfWork, receiver: Receiver, ada: Asker, clock: StoppedClock
) -> None:
    deliver = actions.deliver_webhooks
    endpoint, secret = await listen(actions, ada, receiver)
    for _ in range(2):
        await tell(work, ada.id)
    await tell(work, uuid4(), "somebody else's")
    with pytest.raises(ZeroDivisionError):
        async with work() as unit:
            await unit.webhooks.tell(ada.id, "limit.reached", {}, effect_key="y")
            raise ZeroDivisionError
    clock.forward(timedelta(days=10_000))
    assert await deliver() == 1
    assert await deliver() == 0
    [received] = receiver.received
    assert received.json["data"] == {"key": "x"}
    assert secret not in repr(endpoint)


async def test_the_reference_verifies_what_was_delivered_also_while_a_secret_rotates(
    actions: Actions, work: NewUnitOfWork, receiver: Receiver, ada: Asker, database: Database
) -> None:
    # At the real time: the reference wants a fresh timestamp.
    deliver = replace(actions.deliver_webhooks, clock=SystemClock())
    endpoint, old = await listen(actions, ada, receiver)
    await tell(work, ada.id, "1")
    await deliver()
    keep = replace(actions.keep_webhooks, clock=SystemClock())
    _, new = await keep.rotate_secret(endpoint.id, ada)
    await tell(work, ada.id, "2")
    await deliver()
    first, second = receiver.received
    assert first.verified(old)["type"] == "limit.reached"
    assert second.verified(old) == second.verified(new)
    assert old != new
    [row] = await database.fetch("select secret, old_secret from webhook_endpoint")
    for kept in row.values():
        assert old.encode() not in kept
        assert new.encode() not in kept


async def test_a_secret_that_changes_while_a_message_is_tried_again_and_again(
    actions: Actions, work: NewUnitOfWork, receiver: Receiver, ada: Asker, clock: StoppedClock
) -> None:
    """Neither what waits nor an attempt that is under way undoes it, and the old one signs on."""
    endpoint, old = await listen(actions, ada, receiver)
    receiver.answer = status(503)
    await tell(work, ada.id)
    clock.forward(datetime.now(UTC) - clock.now())
    assert await actions.deliver_webhooks() == 1
    receiver.answer = hang
    clock.forward(timedelta(minutes=2))
    attempt = asyncio.create_task(actions.deliver_webhooks())
    while len(receiver.received) < 2 and not attempt.done():
        await asyncio.sleep(0.01)
    _, new = await actions.keep_webhooks.rotate_secret(endpoint.id, ada)
    assert await attempt == 1
    receiver.answer = status(204)
    clock.forward(timedelta(minutes=2))
    assert await actions.deliver_webhooks() == 1
    _, during, third = receiver.received
    assert during.verified(old) == third.verified(new) == third.verified(old)
    assert during.id == third.id
    await tell(work, ada.id, "a day later")
    clock.forward(timedelta(hours=24))
    assert await actions.deliver_webhooks() == 1
    signatures = [one.headers["webhook-signature"].count("v1,") for one in receiver.received]
    assert signatures == [1, 1, 2, 1]


async def test_types_owners_and_the_operator(
    actions: Actions, work: NewUnitOfWork, ada: Asker, clock: StoppedClock
) -> None:
    async with receiving() as own, receiving() as team, receiving() as operators:
        await listen(actions, ada, own, "invoice.finalized", "credit_note.issued")
        await actions.keep_webhooks.create(ada, team.url, (), organisation_id=ORGANISATION)
        await listen(actions, STAFF, operators)
        await tell(work, ada.id, "1")
        await tell(work, ada.id, "2", "invoice.finalized")
        await tell(work, ORGANISATION, "3", "subscription.changed")
        clock.forward(timedelta(days=10_000))
        await actions.deliver_webhooks()
    assert own.types == ["invoice.finalized"]
    assert team.types == ["subscription.changed"]
    assert sorted(operators.types) == ["invoice.finalized", "limit.reached", "subscription.changed"]


async def test_strangers_find_nothing(
    actions: Actions, work: NewUnitOfWork, receiver: Receiver, ada: Asker
) -> None:
    endpoint, _ = await listen(actions, ada, receiver)
    await tell(work, ada.id)
    team, _ = await actions.keep_webhooks.create(
        ada, receiver.url, (), organisation_id=ORGANISATION
    )
    [delivery] = await actions.redeliver_webhooks.list(
        endpoint.id, ada, state=None, after=None, most=9
    )
    keep = actions.keep_webhooks
    for stranger in (Asker(UserId(uuid4())), STAFF):
        for whose in (endpoint.id, team.id):
            with pytest.raises(WebhookNotFound):
                await keep.show(whose, stranger)
            with pytest.raises(WebhookNotFound):
                await keep.delete(whose, stranger)
            with pytest.raises(WebhookNotFound):
                await keep.rotate_secret(whose, stranger)
        with pytest.raises(WebhookDeliveryNotFound):
            await actions.redeliver_webhooks.again(delivery.id, stranger)
    operators, _ = await listen(actions, STAFF, receiver)
    with pytest.raises(WebhookNotFound):
        await keep.show(operators.id, ada)
    access = replace(keep.access, organisations=FixedOrganisations({(ORGANISATION, ada.id): False}))
    with pytest.raises(OrganisationBillingRequired):
        await access.find(team.id, ada)


async def test_what_can_not_be_a_webhook_is_refused(
    actions: Actions, receiver: Receiver, ada: Asker
) -> None:
    keep = actions.keep_webhooks
    with pytest.raises(UnknownWebhookType):
        await keep.create(ada, receiver.url, ("usage.recorded",))
    with pytest.raises(WebhookUrlNotAllowed):
        await keep.create(ada, "https://169.254.169.254/", ())
    made = await asyncio.gather(
        *(keep.create(ada, receiver.url, ()) for _ in range(12)), return_exceptions=True
    )
    assert sum(isinstance(one, TooManyWebhooks) for one in made) == 2
    assert len(await keep.list(ada)) == 10


@pytest.mark.parametrize("answer", [hang, status(500), status(302, "Location: http://127.0.0.1")])
async def test_a_failure_is_tried_again_with_the_same_id_until_it_is_dead_and_redelivered(
    actions: Actions,
    work: NewUnitOfWork,
    database: Database,
    receiver: Receiver,
    ada: Asker,
    clock: StoppedClock,
    answer: Any,
) -> None:
    deliver, again = actions.deliver_webhooks, actions.redeliver_webhooks
    receiver.answer = answer
    endpoint, _ = await listen(actions, ada, receiver)
    await tell(work, ada.id)
    clock.forward(timedelta(days=10_000))
    assert await deliver() == 1
    assert await deliver() == 0  # it waits
    assert await states(database) == [("waiting", 1)]
    # All but the last attempt, as if they had been made.
    await database.execute("update webhook_delivery set attempts = 8")
    clock.forward(timedelta(days=1))
    assert await deliver() == 1
    assert await states(database) == [("dead", 9)]
    [dead] = await again.dead(ada, None, after=None, most=9)
    receiver.answer = status(200)
    clock.forward(timedelta(minutes=1))
    await again.again(dead.id, ada)
    assert await deliver() == 1
    assert await states(database) == [("delivered", 1)]
    assert {one.id for one in receiver.received} == {dead.message_id}
    assert (await actions.keep_webhooks.show(endpoint.id, ada)).failing_since is None


async def test_a_crash_between_the_answer_and_our_commit_delivers_twice_under_one_id(
    actions: Actions,
    work: NewUnitOfWork,
    database: Database,
    receiver: Receiver,
    ada: Asker,
    clock: StoppedClock,
) -> None:
    deliver = actions.deliver_webhooks
    await listen(actions, ada, receiver)
    await tell(work, ada.id)
    clock.forward(timedelta(days=10_000))
    [claim] = await deliver.claim(9, most_doubtful=9)
    # The process is gone once the receiver has answered.
    assert (await deliver.attempt(claim)).is_taken
    assert await deliver() == 0
    clock.forward(timedelta(seconds=61))
    assert await deliver() == 1
    first, second = receiver.received
    assert (first.id, first.body) == (second.id, second.body)
    # The first one was only slow after all: what it has to say counts no more.
    await deliver.deliver(claim)
    assert await states(database) == [("delivered", 1)]


async def test_two_processes_at_once_send_each_message_once(
    actions: Actions, work: NewUnitOfWork, database: Database, receiver: Receiver, ada: Asker
) -> None:
    await listen(actions, ada, receiver)
    for number in range(20):
        await tell(work, ada.id, str(number))
    await database.execute("update webhook_delivery set next_attempt_at = '2020-01-01'")
    await asyncio.gather(*(actions.deliver_webhooks() for _ in range(3)))
    assert len(receiver.received) == len({one.id for one in receiver.received}) == 20
    assert receiver.most_at_once <= 4


async def test_one_dead_receiver_delays_nobody(
    actions: Actions, work: NewUnitOfWork, database: Database, receiver: Receiver, ada: Asker
) -> None:
    grace = Asker(UserId(uuid4()))
    async with receiving(hang) as dead:
        await listen(actions, grace, dead)
        for number in range(200):
            await tell(work, grace.id, f"dead {number}")
        await listen(actions, ada, receiver)
        await tell(work, ada.id)
        await database.execute(
            "update webhook_delivery set next_attempt_at = created_at - interval '9 days'"
        )
        pump = asyncio.create_task(WebhookPump(actions.deliver_webhooks).run())
        try:
            async with asyncio.timeout(5):
                while not receiver.received:
                    await asyncio.sleep(0.01)
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        assert dead.most_at_once <= 4


async def test_dozens_that_take_their_time_delay_nobody(
    actions: Actions, work: NewUnitOfWork, database: Database, receiver: Receiver, ada: Asker
) -> None:
    patient = HttpWebhookSender(allow_local=True)
    deliver = replace(actions.deliver_webhooks, sender=patient)

    async def takes_its_time(write: Write) -> None:
        await asyncio.sleep(5)
        await status(204)(write)

    async with receiving(takes_its_time) as slow:
        for _ in range(20):
            grace = Asker(UserId(uuid4()))
            await listen(actions, grace, slow)
            for number in range(5):
                await tell(work, grace.id, f"slow {number}")
        await listen(actions, ada, receiver)
        await tell(work, ada.id)
        # All of them have waited for longer than the one.
        await database.execute(
            "update webhook_delivery"
            " set next_attempt_at = created_at - interval '8 days' - (holder_id <> $1)::int"
            " * interval '1 day'",
            ada.id,
        )
        pump = asyncio.create_task(WebhookPump(deliver, slow_after_seconds=0.1).run())
        try:
            async with asyncio.timeout(4):  # before the first of the others has answered
                while not receiver.received:
                    await asyncio.sleep(0.01)
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        # All that there may be for each of them at once, which is more than there are places.
        assert 64 < slow.most_at_once <= 80


async def test_410_disables_at_once_and_five_days_of_failures_do_with_a_word_to_the_owner(
    actions: Actions,
    work: NewUnitOfWork,
    database: Database,
    receiver: Receiver,
    ada: Asker,
    clock: StoppedClock,
) -> None:
    deliver = actions.deliver_webhooks
    gone, _ = await listen(actions, ada, receiver)
    await tell(work, ada.id)
    receiver.answer = status(410)
    clock.forward(timedelta(days=10_000))
    await deliver()
    found = await actions.keep_webhooks.show(gone.id, ada)
    assert found.disabled_because == "gone"
    assert await states(database) == [("dead", 1)]
    with pytest.raises(WebhookDisabled):
        await actions.redeliver_webhooks.test(gone.id, ada)
    await tell(work, ada.id, "not told")
    await actions.keep_webhooks.change(gone.id, ada, Change(is_enabled=True))

    receiver.answer = status(500)
    for key in ("1", "2", "3"):
        await tell(work, ada.id, key)
    await deliver()
    clock.forward(timedelta(days=5))
    await deliver()
    found = await actions.keep_webhooks.show(gone.id, ada)
    assert found.disabled_because == "failing"
    assert {state for state, _ in await states(database)} == {"dead"}
    words = await database.fetch(
        "select envelope->'data'->>'reason' as reason, envelope->'data'->>'host' as host"
        " from outbox where envelope->>'type' = 'webhook.disabled' order by created_at"
    )
    assert [(row["reason"], row["host"]) for row in words] == [
        ("gone", "127.0.0.1"),
        ("failing", "127.0.0.1"),
    ]
    await actions.keep_webhooks.change(gone.id, ada, Change(is_enabled=True))
    receiver.answer = status(204)
    since = found.created_at - timedelta(days=365_0)
    assert await actions.redeliver_webhooks.since(gone.id, ada, since, all_states=False) == 4
    clock.forward(timedelta(days=1))
    await deliver()
    assert {state for state, _ in await states(database)} == {"delivered"}


async def test_a_receiver_that_asks_for_patience_gets_it(
    actions: Actions, work: NewUnitOfWork, receiver: Receiver, ada: Asker, clock: StoppedClock
) -> None:
    receiver.answer = status(429, "Retry-After: 600")
    await listen(actions, ada, receiver)
    await tell(work, ada.id)
    clock.forward(timedelta(days=10_000))
    await actions.deliver_webhooks()
    await tell(work, ada.id, "another")
    clock.forward(timedelta(seconds=590))
    assert await actions.deliver_webhooks() == 0
    receiver.answer = status(204)
    clock.forward(timedelta(seconds=15))
    assert await actions.deliver_webhooks() == 2


async def test_a_test_one_at_a_time_and_pages_of_deliveries(
    actions: Actions, receiver: Receiver, ada: Asker
) -> None:
    endpoint, _ = await listen(actions, ada, receiver, "invoice.finalized")
    redeliver = actions.redeliver_webhooks
    first = await redeliver.test(endpoint.id, ada)
    with pytest.raises(WebhookTestWaits):
        await redeliver.test(endpoint.id, ada)
    await actions.deliver_webhooks()
    second = await redeliver.test(endpoint.id, ada)
    assert receiver.types == ["webhook.test"]
    page = await redeliver.list(endpoint.id, ada, state=None, after=None, most=1)
    assert [one.id for one in page] == [second.id]
    rest = await redeliver.list(endpoint.id, ada, state=None, after=second.id, most=9)
    assert [(one.id, one.state, one.last_status) for one in rest] == [(first.id, "delivered", 204)]


async def test_the_operator_gets_the_ledger_without_a_gap_and_the_cursor_waits_for_its_2xx(
    actions: Actions, database: Database, receiver: Receiver, clock: StoppedClock
) -> None:
    before = [a_usage() for _ in range(3)]
    await actions.record_usage(before)
    await actions.link_ledger()
    await listen(actions, STAFF, receiver, "usage.recorded")
    facts = [a_usage() for _ in range(1203)]
    for at in range(0, len(facts), 300):
        await actions.record_usage(facts[at : at + 300])
    await actions.link_ledger()
    receiver.answer = status(500)
    assert await actions.deliver_webhooks() == 1
    clock.forward(timedelta(seconds=30))
    assert await actions.deliver_webhooks() == 1  # the same, and nothing beyond it
    assert receiver.received[0].body == receiver.received[1].body
    receiver.answer = status(200)
    clock.forward(timedelta(hours=1))
    assert await actions.deliver_webhooks() == 3
    taken = [one.json["data"] for one in receiver.received[1:]]
    ids = [event["id"] for data in taken[1:] for event in data["events"]]
    assert sorted(ids) == sorted(str(fact.id) for fact in facts)
    assert [len(data["events"]) for data in taken[1:]] == [500, 500, 203]
    event = taken[1]["events"][0]
    known = next(fact for fact in facts if str(fact.id) == event["id"])
    assert event["data"].items() >= known.event.model_dump(mode="json").items()
    assert event["data"]["cost_microusd"] == 205

    less = Deltas(cost_microusd=-5)
    await actions.correct_usage(facts[0].id, less, reason="counted wrong", by=STAFF.id)
    await actions.link_ledger()
    await actions.deliver_webhooks()
    [correction] = receiver.received[-1].json["data"]["corrections"]
    assert (correction["event_id"], correction["cost_microusd"]) == (str(facts[0].id), -5)


async def test_the_ledger_goes_on_at_once_when_its_webhook_is_switched_on_again(
    actions: Actions, receiver: Receiver, clock: StoppedClock
) -> None:
    endpoint, _ = await listen(actions, STAFF, receiver, "usage.recorded")
    await actions.record_usage([a_usage()])
    await actions.link_ledger()
    receiver.answer = status(500)
    while await actions.deliver_webhooks():
        clock.forward(timedelta(hours=13))  # the later ones come at least ten after each other
    found = await actions.keep_webhooks.show(endpoint.id, STAFF)
    assert found.disabled_because == "failing"
    receiver.answer = status(204)
    clock.forward(timedelta(minutes=1) - timedelta(hours=13))
    await actions.keep_webhooks.change(endpoint.id, STAFF, Change(is_enabled=True))
    assert await actions.deliver_webhooks() == 1
    assert len({one.id for one in receiver.received}) == 1


async def test_moments_of_invoices_and_their_credits_end_as_all_others_do(
    actions: Actions, work: NewUnitOfWork, receiver: Receiver, clock: StoppedClock
) -> None:
    books, month = Books(actions, work), Month.named("2026-09")
    await actions.keep_webhooks.create(
        STAFF, receiver.url, ("invoice.finalized", "credit_note.issued")
    )
    holder = uuid4()
    await books.charge(a_charge(holder, 9_000_000, at=datetime(2026, 9, 10, tzinfo=UTC)))
    await books.close_and_run(month)
    request = CreditRequest((), "once", "Made up for a test.", STAFF.id)
    await actions.issue_credit_note((await books.invoice_of(holder)).id, request)
    clock.forward(timedelta(days=10_000))
    await actions.deliver_webhooks()
    moments = [
        (name, str(value))
        for told in receiver.received
        for name, value in {**told.json, **told.json["data"]}.items()
        if name == "timestamp" or name.endswith("_at")
    ]
    assert {name for name, _ in moments} == {"timestamp", "issued_at", "due_at"}
    assert len(moments) == 5
    for _, moment in moments:
        assert moment.endswith("Z") and datetime.fromisoformat(moment).tzinfo == UTC


async def test_who_adds_usage_to_a_webhook_is_told_from_then_on(
    actions: Actions, receiver: Receiver
) -> None:
    await actions.record_usage([a_usage() for _ in range(4)])
    await actions.link_ledger()
    endpoint, _ = await actions.keep_webhooks.create(STAFF, receiver.url, ("invoice.finalized",))
    wanted = Change(types=("invoice.finalized", "usage.recorded"))
    await actions.keep_webhooks.change(endpoint.id, STAFF, wanted)
    await actions.deliver_webhooks()
    assert receiver.received == []
    late = a_usage()
    await actions.record_usage([late])
    await actions.link_ledger()
    await actions.deliver_webhooks()
    [received] = receiver.received
    assert [event["id"] for event in received.json["data"]["events"]] == [str(late.id)]


async def test_who_wants_usage_again_goes_on_where_they_were(
    actions: Actions, receiver: Receiver
) -> None:
    today = datetime.now(UTC)

    async def use(days_ago: int) -> str:
        at = today - timedelta(days=days_ago)
        usage = a_usage(at=at, id_=id_made_at(at))
        await actions.record_usage([usage])
        await actions.link_ledger()
        return str(usage.id)

    async def want(*types: str) -> None:
        await actions.keep_webhooks.change(endpoint.id, STAFF, Change(types=types))

    endpoint, _ = await actions.keep_webhooks.create(STAFF, receiver.url, ("usage.recorded",))
    used = [await use(3)]
    await actions.deliver_webhooks()
    await want("invoice.finalized")
    # Of a day that was told of already, and of one that is new.
    used += [await use(3), await use(2)]
    await want("invoice.finalized", "usage.recorded")
    await actions.deliver_webhooks()
    events = [event for one in receiver.received for event in one.json["data"]["events"]]
    assert sorted(event["id"] for event in events) == sorted(used)


async def test_who_wants_the_ledger_from_its_beginning_gets_it(
    actions: Actions, receiver: Receiver
) -> None:
    facts = [a_usage() for _ in range(4)]
    await actions.record_usage(facts)
    await actions.link_ledger()
    await actions.keep_webhooks.create(
        STAFF, receiver.url, ("usage.recorded",), usage_from_beginning=True
    )
    await actions.deliver_webhooks()
    [received] = receiver.received
    assert len(received.json["data"]["events"]) == 4


async def test_a_user_who_is_deleted_takes_their_webhooks_along(
    actions: Actions, work: NewUnitOfWork, database: Database, receiver: Receiver, ada: Asker
) -> None:
    await listen(actions, ada, receiver)
    await listen(actions, STAFF, receiver)
    await actions.choose_alerts(ada.id, [1_000_000])
    await tell(work, ada.id)
    await tell(work, ada.id, "kept", "invoice.finalized")
    await actions.forget_user.begin([(ada.id, ErasureId(uuid4()))])
    rows = await database.fetch("select owner_kind from webhook_endpoint")
    assert [row["owner_kind"] for row in rows] == ["operator"]
    left = await database.fetch("select type from webhook_delivery")
    assert [row["type"] for row in left] == ["invoice.finalized"]
    assert await database.fetch("select 1 from spend_threshold") == []


async def test_that_a_plan_ends_with_its_user_is_told_to_the_team_alone(
    actions: Actions, database: Database, receiver: Receiver, ada: Asker
) -> None:
    await actions.grant_subscription(ada.id, "pro", None, by=STAFF.id)
    await listen(actions, ada, receiver)
    operators, _ = await listen(actions, STAFF, receiver)

    await actions.forget_user.begin([(ada.id, ErasureId(uuid4()))])
    await actions.forget_user.begin([(ada.id, ErasureId(uuid4()))])

    [row] = await database.fetch("select endpoint_id, body from webhook_delivery")
    assert row["endpoint_id"] == operators.id
    told = json.loads(row["body"])
    assert told["type"] == "subscription.changed"
    facts = told["data"]
    assert (facts["user_id"], facts["tier"], facts["revision"]) == (str(ada.id), "free", 2)


async def test_without_its_key_nothing_is_sent_and_a_new_secret_mends_a_lost_one(
    actions: Actions,
    work: NewUnitOfWork,
    database: Database,
    receiver: Receiver,
    ada: Asker,
    clock: StoppedClock,
    tmp_path: Path,
) -> None:
    endpoint, _ = await listen(actions, ada, receiver)
    await tell(work, ada.id)
    clock.forward(timedelta(days=10_000))
    keyless = replace(actions.deliver_webhooks, seal=SealedSecrets(None))
    assert await keyless() == 0
    others = SealedSecrets(write_webhook_keys(tmp_path / "others.json"))
    lost = replace(actions.deliver_webhooks, seal=others)
    assert await lost() == 1
    [row] = await database.fetch("select last_problem from webhook_delivery")
    assert row["last_problem"] == "secret_unreadable"
    await replace(actions.keep_webhooks, seal=others).rotate_secret(endpoint.id, ada)
    clock.forward(timedelta(minutes=1))
    assert await lost() == 1
    assert len(receiver.received) == 1


async def test_old_deliveries_are_dropped(
    actions: Actions,
    work: NewUnitOfWork,
    database: Database,
    receiver: Receiver,
    ada: Asker,
    clock: StoppedClock,
) -> None:
    await listen(actions, ada, receiver)
    await tell(work, ada.id, "1")
    clock.forward(timedelta(days=10_000))
    await actions.deliver_webhooks()
    await tell(work, ada.id, "waits")
    clock.forward(timedelta(days=31))
    await actions.deliver_webhooks.forget()
    assert await states(database) == [("waiting", 0)]


async def test_spending_is_told_once_for_each_threshold_and_month(
    actions: Actions,
    work: NewUnitOfWork,
    database: Database,
    receiver: Receiver,
    ada: Asker,
    clock: StoppedClock,
) -> None:
    await listen(actions, ada, receiver, "spend.reached")
    assert await actions.choose_alerts(ada.id, [200, 400, 300, 200]) == [200, 300, 400]
    await actions.record_usage([a_usage(user=ada.id, at=clock.now(), sandbox=True)])
    await actions.link_ledger()
    assert await actions.tell_spending() == 0
    await actions.record_usage([a_usage(user=ada.id, at=clock.now())])
    await actions.link_ledger()
    assert [await actions.tell_spending() for _ in range(2)] == [1, 0]
    await actions.record_usage([a_usage(user=ada.id, at=clock.now())])
    await actions.link_ledger()
    told = await asyncio.gather(*(actions.tell_spending() for _ in range(3)))
    assert sum(told) == 1
    rows = await database.fetch(
        "select envelope->'data'->>'threshold_microusd' as threshold from outbox"
        " where envelope->>'type' = 'spend.reached' order by created_at"
    )
    assert [row["threshold"] for row in rows] == ["200", "400"]
    clock.forward(timedelta(days=10_000))
    await actions.deliver_webhooks()
    data = [one.json["data"] for one in receiver.received]
    assert sorted((one["threshold_microusd"], one["spent_microusd"]) for one in data) == [
        (200, 205),
        (400, 410),
    ]
    assert await actions.choose_alerts(ada.id, []) == []


async def test_what_is_spent_at_the_end_of_a_month_is_told_after_its_turn(
    actions: Actions, database: Database, ada: Asker, clock: StoppedClock
) -> None:
    turn = datetime(2026, 12, 1, tzinfo=UTC)
    clock.forward(turn - timedelta(seconds=20) - clock.now())
    await actions.choose_alerts(ada.id, [200])
    await actions.record_usage([a_usage(user=ada.id, at=clock.now())])
    await actions.link_ledger()
    clock.forward(timedelta(seconds=40))
    # A threshold of the new month says nothing about the one that is over.
    await actions.choose_alerts(ada.id, [100, 200])
    assert [await actions.tell_spending() for _ in range(2)] == [1, 0]
    [told] = await database.fetch(
        "select envelope -> 'data' as data from outbox where envelope ->> 'type' = 'spend.reached'"
    )
    assert (told["data"]["month"], told["data"]["threshold_microusd"]) == ("2026-11", 200)


async def test_a_changed_subscription_is_told(
    actions: Actions, receiver: Receiver, ada: Asker, clock: StoppedClock
) -> None:
    await listen(actions, ada, receiver)
    await actions.grant_subscription(ada.id, "pro", None, by=STAFF.id)
    clock.forward(timedelta(days=10_000))
    await actions.deliver_webhooks()
    [received] = receiver.received
    assert received.type == "subscription.changed"
    assert received.json["data"]["tier"] == "pro"


async def test_what_is_due_and_what_was_given_up_is_told_to_prometheus(
    actions: Actions, work: NewUnitOfWork, receiver: Receiver, ada: Asker, clock: StoppedClock
) -> None:
    assert (await actions.watch_waiting()).webhooks == WebhookBacklog()
    await listen(actions, ada, receiver)
    await tell(work, ada.id)
    clock.forward(timedelta(days=10_000))
    waiting = await actions.watch_waiting()
    oldest = waiting.webhooks.oldest
    assert oldest is not None
    assert (waiting.webhooks.due, waiting.webhooks.given_up) == (1, 0)
    show_waiting(waiting, oldest + timedelta(minutes=5))
    assert REGISTRY.get_sample_value("companion_billing_webhooks_oldest_seconds") == 300
    # Between its attempts it is not due, and not taken either.
    receiver.answer = status(500)
    await actions.deliver_webhooks()
    assert (await actions.watch_waiting()).webhooks == WebhookBacklog(0, oldest)
    receiver.answer = status(204)
    clock.forward(timedelta(minutes=10))
    await actions.deliver_webhooks()
    assert (await actions.watch_waiting()).webhooks == WebhookBacklog()
    async with work() as unit:
        [endpoint] = await actions.keep_webhooks.list(ada)
        await unit.webhooks.tell(ada.id, "limit.reached", {}, effect_key="late")
        await unit.webhook_outbox.give_up(endpoint.id, clock.now())
    assert (await actions.watch_waiting()).webhooks.given_up == 1
    clock.forward(timedelta(days=2))
    assert (await actions.watch_waiting()).webhooks.given_up == 0
