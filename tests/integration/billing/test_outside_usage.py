"""Usage that services outside the suite tell."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from services.billing.actions import Actions
from services.billing.actions.report_outside_usage import ReportResult, Told
from services.billing.domain.outside_usage import OutsideEvent
from shared.events import Fact
from shared.events.usage import UsageReported
from shared.ids import UserId, first_id_at
from tests.integration.billing.harness import Billing, drift
from tests.support.billing import StoppedClock, a_usage, id_made_at

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def an_event(
    user: UUID, *, id_: str | None = None, at: datetime | None = None, **data: Any
) -> dict[str, Any]:
    """Two screenshots of a service that counts them."""
    return {
        "specversion": "1.0",
        "id": id_ or f"shot-{uuid4()}",
        "source": "/screenshots",
        "type": "usage.reported",
        "subject": str(user),
        "time": (at or datetime.now(UTC)).isoformat(),
        "data": {"meter": "screenshot", "quantity": 2, **data},
    }


class Service:
    """A program with a personal token of the operator's that may tell usage."""

    def __init__(self, billing: Billing, **claims: Any) -> None:
        self.id = uuid4()
        self.billing = billing
        self.headers = billing.mint.headers(
            self.id, **{"scope": "usage:write", "role": "operator", "amr": ["pat"], **claims}
        )

    async def post(self, body: Any, media_type: str = BATCH) -> httpx.Response:
        content = body if isinstance(body, str | bytes) else json.dumps(body)
        return await self.billing.public.post(
            "/billing/usage/events",
            content=content,
            headers={**self.headers, "content-type": media_type},
        )

    async def tell(self, *events: Any) -> dict[str, Any]:
        response = await self.post(list(events))
        assert response.status_code == 202, response.text
        body: dict[str, Any] = response.json()
        told = body["accepted"] + body["duplicates"] + len(body["held"]) + len(body["rejected"])
        assert told == len(events)
        return body

    async def entries(self) -> list[Any]:
        return await self.billing.database.fetch(
            "select e.* from ledger_entry e join outside_event o using (event_id)"
            " where o.reporter_id = $1 order by e.event_id",
            self.id,
        )


@pytest.fixture
def service(billing: Billing) -> Service:
    return Service(billing)


@pytest.fixture
def ada() -> UUID:
    return uuid4()


def codes(found: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(one["index"], one["code"]) for one in found]


async def test_a_single_event_and_a_batch_land_in_the_ledger_once(
    service: Service, ada: UUID
) -> None:
    first, second = an_event(ada), an_event(ada, quantity="3", request_id="req-1")
    assert (await service.post(first, SINGLE)).json()["accepted"] == 1
    assert (await service.post([first, second], "application/json")).json() == {
        "accepted": 1,
        "duplicates": 1,
        "held": [],
        "rejected": [],
    }
    assert (await service.tell(first, second))["duplicates"] == 2
    entries = await service.entries()
    assert sorted(row["units"] for row in entries) == [2, 3]
    [row] = [row for row in entries if row["units"] == 3]
    assert (row["user_id"], row["operation"], row["provider"]) == (ada, "screenshot", "outside")
    assert (row["pricing_status"], row["unit"], row["request_id"]) == (
        "unknown_price",
        "screenshot",
        "req-1",
    )
    records = (await service.billing.get("usage/records", ada)).json()["data"]
    assert sorted(record["units"] for record in records) == [2, 3]
    off = [row for row in await drift(service.billing.database) if row["user_id"] == ada]
    assert off == []


async def test_what_stands_in_the_ledger_is_told_once_and_what_is_held_is_not(
    service: Service, ada: UUID
) -> None:
    event = an_event(ada, quantity=3, model="screenshot-full-page", request_id="req-1")
    await service.tell(event, an_event(ada, meter="hologram"))
    await service.tell(event)
    [row] = await service.billing.database.fetch(
        "select event_id, stream, envelope from outbox"
        " where starts_with(stream, 'usage.reported.') and envelope->>'subject' = $1",
        str(ada),
    )
    [entry] = await service.entries()
    assert (row["event_id"], row["stream"]) == (entry["event_id"], "usage.reported.free")
    told = Fact.from_wire(row["envelope"]).event
    assert isinstance(told, UsageReported)
    assert (told.user_id, told.meter, told.units, told.unit) == (ada, "screenshot", 3, "screenshot")
    assert (told.model, told.request_id) == ("screenshot-full-page", "req-1")
    assert (told.reported_source, told.reported_id) == ("/screenshots", event["id"])
    assert told.occurred_at == entry["occurred_at"]


async def test_what_a_reporter_says_beside_the_facts_is_shown_with_the_record(
    service: Service, ada: UUID
) -> None:
    said = {"window": "IDE", "width": 2560, "scale": 1.5, "redacted": True, "emoji": "🙂"}
    event = an_event(ada, request_id="req-1", metadata=said)
    plain = an_event(ada)
    assert (await service.tell(event, plain))["accepted"] == 2
    assert (await service.tell(event, plain))["duplicates"] == 2
    other = {**event, "data": {**event["data"], "metadata": {**said, "width": 1}}}
    assert codes((await service.tell(other))["rejected"]) == [(0, "id_reused")]
    # Told before anybody heard what was said beside it, it is the same; the first word stands.
    more = {**plain, "data": {**plain["data"], "metadata": said}}
    assert (await service.tell(more))["duplicates"] == 1
    records = (await service.billing.get("usage/records", ada)).json()["data"]
    shown = [record["request_metadata"] for record in records]
    assert sorted("reported" in one for one in shown) == [False, True]
    [one] = [one for one in shown if "reported" in one]
    assert one["reported"] == said
    assert (one["request_id"], one["source"], one["outcome"]) == ("req-1", "counted", "done")
    [record] = [record for record in records if record["request_metadata"] == one]
    path = f"usage/records/{record['event_id']}"
    alone = (await service.billing.get(path, ada)).json()
    assert alone["request_metadata"] == one


@pytest.mark.parametrize(
    "said",
    [
        {"deep": {"er": 1}},
        {"list": [1]},
        {"none": None},
        {"": "x"},
        {"x": "y" * 2_048},
        {"nul": "\x00"},
        {str(number): 1 for number in range(51)},
        "text",
    ],
)
async def test_metadata_that_is_not_flat_or_not_small_is_not_readable(
    service: Service, ada: UUID, said: Any
) -> None:
    assert codes((await service.tell(an_event(ada, metadata=said)))["rejected"]) == [
        (0, "event_not_readable")
    ]


async def test_reports_at_once_count_each_event_once(service: Service, ada: UUID) -> None:
    events = [an_event(ada) for _ in range(40)]
    answers = await asyncio.gather(
        *(service.tell(*(events if turn % 2 else reversed(events))) for turn in range(6))
    )
    assert sum(answer["accepted"] for answer in answers) == 40
    assert sum(answer["duplicates"] for answer in answers) == 200
    assert len(await service.entries()) == 40


async def test_an_id_means_one_thing(service: Service, ada: UUID) -> None:
    event = an_event(ada, id_="shot-1")
    await service.tell(event)
    other = {**event, "data": {"meter": "screenshot", "quantity": 5}}
    later = {**event, "time": (datetime.now(UTC) + timedelta(seconds=5)).isoformat()}
    answer = await service.tell(other, event, later)
    assert codes(answer["rejected"]) == [(0, "id_reused"), (2, "id_reused")]
    # Within one report too: the first one counts.
    twice = an_event(ada, id_="shot-2")
    answer = await service.tell(twice, {**twice, "data": {"meter": "screenshot", "quantity": 9}})
    assert (answer["accepted"], codes(answer["rejected"])) == (1, [(1, "id_reused")])
    # The same content is the same, however it is written down.
    moment = (
        datetime.fromisoformat(event["time"]).astimezone(UTC).isoformat().replace("+00:00", "Z")
    )
    assert (await service.tell({**event, "time": moment}))["duplicates"] == 1
    # Another reporter's ids, and another source's, are others.
    assert (await Service(service.billing).tell(other))["accepted"] == 1
    assert (await service.tell({**event, "source": "/others"}))["accepted"] == 1


async def test_the_same_usage_told_by_two_reporters_counts_once(
    service: Service, ada: UUID
) -> None:
    second, third = Service(service.billing), Service(service.billing)
    event = an_event(ada, metadata={"window": "IDE"})
    assert (await service.tell(event))["accepted"] == 1
    other = {**event, "data": {**event["data"], "metadata": {"window": "Mail"}}}
    for _again in range(2):
        assert (await second.tell(other))["duplicates"] == 1
    assert await second.entries() == await service.entries()
    # It is the second one's event from then on, too, and an id means one thing.
    bad = {**event, "data": {**event["data"], "quantity": 3}}
    assert codes((await second.tell(bad))["rejected"]) == [(0, "id_reused")]
    # With any other content it is another one's own: nobody uses up somebody else's ids.
    assert (await third.tell(bad))["accepted"] == 1
    records = (await service.billing.get("usage/records", ada)).json()["data"]
    assert sorted(record["units"] for record in records) == [2, 3]


async def test_reporters_who_tell_the_same_at_once_count_it_once(
    billing: Billing, ada: UUID
) -> None:
    reporters = [Service(billing) for _ in range(4)]
    events = [an_event(ada) for _ in range(30)]
    answers = await asyncio.gather(
        *(
            reporter.tell(*(events if turn % 2 else reversed(events)))
            for turn in range(2)
            for reporter in reporters
        )
    )
    assert sum(answer["accepted"] for answer in answers) == 30
    assert sum(answer["duplicates"] for answer in answers) == 7 * 30
    found = await billing.database.fetch("select 1 from ledger_entry where user_id = $1", ada)
    assert len(found) == 30


async def test_a_bad_repeat_of_what_counts_holds_nothing(service: Service, ada: UUID) -> None:
    held = await _held(service, "quantity_out_of_range")
    good = an_event(ada)
    bad = {**good, "data": {**good["data"], "quantity": -5}}
    assert (await service.tell(good))["accepted"] == 1
    answer = await service.tell(bad)
    assert (answer["held"], codes(answer["rejected"])) == ([], [(0, "id_reused")])
    # Within one report, too, whichever comes first.
    for place in (0, 1):
        good = an_event(ada)
        bad = {**good, "data": {**good["data"], "quantity": -5}}
        answer = await service.tell(*([good, bad] if place else [bad, good]))
        assert (answer["accepted"], answer["held"]) == (1, [])
        assert codes(answer["rejected"]) == [(place, "id_reused")]
    assert await _held(service, "quantity_out_of_range") == held


async def test_what_counts_and_would_be_held_by_now_is_the_same_event_still(
    actions: Actions, clock: StoppedClock, ada: UUID
) -> None:
    reporter = UserId(uuid4())
    event = OutsideEvent(
        reporter=reporter,
        source="/screenshots",
        external_id="shot-1",
        user_id=UserId(ada),
        occurred_at=clock.now(),
        meter="screenshot",
        quantity=Decimal(1),
    )

    async def tell(told: OutsideEvent) -> ReportResult:
        report = actions.report_outside_usage
        return await report([Told(0, told, {})], reporter=reporter, for_anybody=True)

    assert (await tell(event)).accepted == 1
    # A clock that was ahead is set right.
    clock.forward(timedelta(hours=-1))
    again = await tell(event)
    assert (again.duplicates, again.held, again.rejected) == (1, [], [])
    other = await tell(replace(event, quantity=Decimal(2)))
    assert (other.duplicates, [why.code for _, why in other.rejected]) == (0, ["id_reused"])


async def test_reports_that_put_right_what_the_other_spoils_do_not_block_each_other(
    service: Service, ada: UUID
) -> None:
    def spoilt(event: dict[str, Any]) -> dict[str, Any]:
        return {**event, "data": {**event["data"], "quantity": -1}}

    held = await _held(service, "quantity_out_of_range")
    for _time in range(5):
        one, other = an_event(ada), an_event(ada)
        await service.tell(spoilt(one), spoilt(other))
        answers = await asyncio.gather(
            service.tell(one, spoilt(other)), service.tell(other, spoilt(one))
        )
        assert [answer["accepted"] for answer in answers] == [1, 1]
    # Whoever was second told of what counts, or put right what the first one had held.
    assert await _held(service, "quantity_out_of_range") == held


@pytest.mark.parametrize(
    ("written", "units"), [("1.0", 1), ("2e3", 2_000), ("1.000000e6", 1_000_000), ('"3.0"', 3)]
)
async def test_a_whole_number_counts_however_it_is_written(
    service: Service, ada: UUID, written: str, units: int
) -> None:
    body = json.dumps([an_event(ada, quantity="#")]).replace('"#"', written)
    assert (await service.post(body)).json()["accepted"] == 1
    assert [row["units"] for row in await service.entries()] == [units]


@pytest.mark.parametrize(
    ("written", "place", "code"),
    [
        ("1.5", "held", "quantity_not_whole"),
        (f"1{'0' * 40}", "held", "quantity_out_of_range"),
        ("1e40", "held", "quantity_out_of_range"),
        ("1e-40", "held", "quantity_not_whole"),
        ("-1.0", "held", "quantity_out_of_range"),
        ("9" * 1_000, "held", "quantity_out_of_range"),
        ("9" * 1_001, "rejected", "event_not_readable"),
        ("9" * 9_000, "rejected", "event_not_readable"),
        ("1e9999999999999999999", "rejected", "event_not_readable"),
        ("NaN", "rejected", "event_not_readable"),
    ],
)
async def test_a_number_that_can_not_be_counted_takes_nothing_with_it(
    service: Service, ada: UUID, written: str, place: str, code: str
) -> None:
    body = json.dumps([an_event(ada), an_event(ada, quantity="#")]).replace('"#"', written)
    response = await service.post(body)
    assert response.status_code == 202, response.text
    answer = response.json()
    assert (answer["accepted"], codes(answer[place])) == (1, [(1, code)])


async def test_late_usage_has_the_tier_of_its_time(sandbox: Billing, ada: UUID) -> None:
    service = Service(sandbox)
    for tier in ("pro", "free", "enterprise"):
        body = {"tier": tier}
        assert (await sandbox.send("PUT", "subscription", ada, json=body)).status_code == 200
    # As if the three had been weeks apart.
    now = datetime.now(UTC)
    await sandbox.database.execute(
        "update subscription_change"
        " set changed_at = $2::timestamptz - (4 - revision) * interval '10 days'"
        " where user_id = $1",
        ada,
        now,
    )
    ages = (40, 30, 25, 15, 5)
    events = [an_event(ada, at=now - timedelta(days=age)) for age in ages]
    assert (await service.tell(*reversed(events)))["accepted"] == 5
    entries = await service.entries()
    assert [row["tier"] for row in entries] == ["free", "pro", "pro", "free", "enterprise"]


async def test_a_members_usage_has_the_tier_that_they_were_served_by(
    sandbox: Billing, ada: UUID
) -> None:
    service, now, grace = Service(sandbox), datetime.now(UTC), uuid4()
    called = now - timedelta(days=8)
    await sandbox.record(
        *(
            a_usage(id_=id_made_at(at), user=ada, at=at, tier=tier)
            for at, tier in (
                (called, "enterprise"),
                (called + timedelta(hours=2), "free"),  # the seat is gone
                (called + timedelta(days=3), "pro"),
            )
        ),
        a_usage(id_=id_made_at(called), user=grace, at=called, tier="enterprise"),
    )
    # Half a minute before the last call they had chosen something of their own.
    own = {"tier": "pro"}
    assert (await sandbox.send("PUT", "subscription", ada, json=own)).status_code == 200
    await sandbox.database.execute(
        "update subscription_change set tier = 'free', changed_at = $2 where user_id = $1",
        ada,
        called + timedelta(days=3) - timedelta(seconds=30),
    )

    async def told(user: UUID, *hours_after: int) -> list[str]:
        """One after the other: what was believed of one is no proof for the next."""
        for hours in hours_after:
            event = an_event(user, at=called + timedelta(hours=hours))
            assert (await service.tell(event))["accepted"] == 1
        return [row["tier"] for row in await service.entries() if row["user_id"] == user]

    assert await told(ada, -1, 1, 3, 73) == ["free", "enterprise", "free", "free"]
    assert await told(grace, -1, 1, 23, 25) == ["free", "enterprise", "enterprise", "free"]


async def test_who_served_is_not_looked_for_among_all_that_a_machine_has_told(
    sandbox: Billing, ada: UUID
) -> None:
    service, called = Service(sandbox), datetime.now(UTC) - timedelta(days=8)
    served = a_usage(id_=id_made_at(called), user=ada, at=called, tier="enterprise")
    await sandbox.record(served)
    event = an_event(ada, at=called + timedelta(minutes=1))
    assert (await service.tell(event))["accepted"] == 1

    async def told_by_a_machine(first: int, last: int) -> None:
        await sandbox.database.execute(
            """
            insert into ledger_entry
            select (jsonb_populate_record(e, jsonb_build_object(
                'event_id', left(e.event_id::text, 15) || right(gen_random_uuid()::text, 21),
                'occurred_at', e.occurred_at + n * interval '1 second'
            ))).*
            from ledger_entry e, generate_series($1::int, $2::int) as n
            where e.producer like 'outside:%' and e.occurred_at = $3
            """,
            first,
            last,
            called + timedelta(minutes=1),
        )

    async def tier_at(minute: int) -> str:
        at = called + timedelta(minutes=minute)
        assert (await service.tell(an_event(ada, at=at)))["accepted"] == 1
        row = await sandbox.database.fetchrow(
            "select tier from ledger_entry where occurred_at = $1 and units > 0", at
        )
        return str(row["tier"]) if row else ""

    await told_by_a_machine(1, 1990)
    assert await tier_at(60) == "enterprise"
    await told_by_a_machine(1991, 2010)
    assert await tier_at(61) == "free"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"data": {"meter": "hologram", "quantity": 1}}, "unknown_meter"),
        ({"data": {"meter": "screenshot", "quantity": -1}}, "quantity_out_of_range"),
        ({"data": {"meter": "screenshot", "quantity": 0}}, "quantity_out_of_range"),
        ({"data": {"meter": "screenshot", "quantity": 10**25}}, "quantity_out_of_range"),
        ({"data": {"meter": "screenshot", "quantity": "1.5"}}, "quantity_not_whole"),
        ({"data": {"meter": "screenshot", "quantity": 1, "unit": "byte"}}, "unknown_unit"),
        ({"time": "2199-01-01T00:00:00Z"}, "time_ahead"),
        ({"time": "0101-01-01T00:00:00Z"}, "time_out_of_range"),
    ],
)
async def test_what_can_not_be_counted_is_held_and_seen_until_it_is_told_well(
    service: Service, ada: UUID, change: dict[str, Any], code: str
) -> None:
    good = an_event(ada)
    answer = await service.tell({**good, **change}, an_event(ada))
    assert (answer["accepted"], codes(answer["held"])) == (1, [(0, code)])
    held = await _held(service, code)
    assert held >= 1
    assert (await service.tell(good))["accepted"] == 1
    assert await _held(service, code) == held - 1
    assert len(await service.entries()) == 2


async def _held(service: Service, code: str) -> int:
    response = await service.billing.send("GET", "admin/reconciliation", uuid4(), role="billing")
    return sum(h["events"] for h in response.json()["held_usage"] if h["code"] == code)


@pytest.mark.parametrize("minutes", [-10, 9])
async def test_clocks_that_are_ten_minutes_off_lose_nothing(
    service: Service, ada: UUID, minutes: int
) -> None:
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    assert (await service.tell(an_event(ada, at=at)))["accepted"] == 1
    [row] = await service.entries()
    assert row["occurred_at"] == at
    assert row["event_id"].int >> 80 == first_id_at(at).int >> 80


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "0.3"},
        {"id": ""},
        {"id": "x" * 201},
        {"id": "a\u0000b"},
        {"subject": "ada"},
        {"time": "2026-11-24T12:00:00"},
        {"type": "usage.recorded"},
        {"data": None},
        {"data": {"meter": "screenshot"}},
        {"data": {"meter": "screenshot", "quantity": True}},
        {"data": {"meter": "screenshot", "quantity": "NaN"}},
        {"data": {"meter": "screenshot", "quantity": 1, "model": "\ud800"}},
    ],
)
async def test_a_poisonous_event_does_not_take_its_batch_with_it(
    service: Service, ada: UUID, change: dict[str, Any]
) -> None:
    answer = await service.tell(an_event(ada), {**an_event(ada), **change}, an_event(ada))
    assert answer["accepted"] == 2
    assert codes(answer["rejected"]) == [(1, "event_not_readable")]
    assert len(await service.entries()) == 2


async def test_a_person_tells_only_their_own_usage(billing: Billing, ada: UUID) -> None:
    person = Service(billing, amr=["pwd"], scope="billing:read usage:write")
    answer = await person.tell(an_event(ada), an_event(person.id))
    assert (answer["accepted"], codes(answer["rejected"])) == (1, [(0, "subject_not_yours")])


@pytest.mark.parametrize("scope", ["billing:read billing", "chat", ""])
async def test_the_scope_decides_and_not_the_role(billing: Billing, scope: str) -> None:
    reporter = Service(billing, scope=scope, role="operator")
    response = await reporter.post([an_event(reporter.id)])
    assert (response.status_code, response.json()["code"]) == (403, "scope_missing")
    member = Service(billing, role="member")
    assert (await member.tell(an_event(member.id)))["accepted"] == 1
    # And it opens nothing else.
    response = await billing.public.get("/billing/usage", headers=member.headers)
    assert (response.status_code, response.json()["code"]) == (403, "scope_missing")


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        ([], BATCH),
        ([{}] * 501, BATCH),
        ("{", SINGLE),
        ("[" * 5_000, BATCH),
        ('"text"', "application/json"),
        ([], "text/plain"),
    ],
)
async def test_a_report_that_can_not_be_read_says_so(
    service: Service, body: Any, media_type: str
) -> None:
    response = await service.post(body, media_type)
    assert (response.status_code, response.json()["code"]) == (422, "usage_not_readable")


async def test_a_report_beyond_a_mebibyte_is_too_large(service: Service, ada: UUID) -> None:
    response = await service.post(json.dumps([an_event(ada, request_id="x" * 200)]) + " " * 2**20)
    assert response.status_code == 413


async def test_a_price_of_the_meter_rates_what_waits_and_what_comes(
    service: Service, ada: UUID
) -> None:
    model = f"screenshot-{uuid4()}"
    now = datetime.now(UTC)
    await service.tell(an_event(ada, model=model, quantity=3))
    price = {
        "provider": "outside",
        "model": model,
        "unit_microusd": 2_500,
        "effective_from": (now - timedelta(hours=1)).isoformat(),
    }
    billing = service.billing
    preview = await billing.send("POST", "admin/prices/preview", ada, role="billing", json=price)
    assert preview.json()["data"] == [
        {
            "tier": "free",
            "waiting": 1,
            "waiting_cost_microusd": 7_500,
            "waiting_cost_usd": "0.007500",
            "still_waiting": 0,
            "rated": 0,
            "cost_now_microusd": 0,
            "cost_now_usd": "0.000000",
            "cost_then_microusd": 0,
            "cost_then_usd": "0.000000",
            "difference_microusd": 0,
            "difference_usd": "0.000000",
            "not_priced_then": 0,
        }
    ]
    set_ = await billing.send("POST", "admin/prices", ada, role="billing", json=price)
    assert set_.status_code == 201, set_.text
    await service.tell(an_event(ada, model=model, quantity=4))
    costs = [row["cost_microusd"] for row in await service.entries()]
    assert sorted(costs, key=str) == [10_000, None]


async def test_an_event_whose_attributes_are_headers_is_an_event(
    service: Service, ada: UUID
) -> None:
    """CloudEvents' binary mode, in which their SDKs send if they are not told otherwise."""
    event = an_event(ada, id_=f'shot "{uuid4()}" 100 % Gr\u00fc\u00dfe', model="screenshot-full")
    quoted = {name: quote(value, safe=":/") for name, value in event.items() if name != "data"}

    async def send(media_type: str = "application/json", **changed: str) -> httpx.Response:
        attributes = {f"ce-{name}": value for name, value in (quoted | changed).items()}
        return await service.billing.public.post(
            "/billing/usage/events",
            content=json.dumps(event["data"]),
            headers={**service.headers, **attributes, "content-type": media_type},
        )

    told = await send()
    assert (told.status_code, told.json()["accepted"]) == (202, 1), told.text
    # The same event, however it is sent; some of those SDKs encode nothing.
    unquoted = b"ce-id", event["id"].encode()
    plain = {f"ce-{name}": value for name, value in quoted.items() if name != "id"}
    headers = service.headers | plain | {"content-type": "application/json"}
    again = await service.billing.public.post(
        "/billing/usage/events",
        content=json.dumps(event["data"]),
        headers=[unquoted, *((name.encode(), text.encode()) for name, text in headers.items())],
    )
    assert again.json()["duplicates"] == 1, again.text
    for media_type in ("application/json; charset=utf-8", "application/vnd.screenshots+json"):
        assert (await send(media_type)).json()["duplicates"] == 1
    assert (await service.post(event, SINGLE)).json()["duplicates"] == 1
    [entry] = await service.entries()
    assert (entry["user_id"], entry["units"], entry["model"]) == (ada, 2, "screenshot-full")
    [rejected] = (await send(type="usage.thought")).json()["rejected"]
    assert (rejected["id"], rejected["code"]) == (event["id"], "event_not_readable")
    assert "type" in rejected["detail"]
    # Data of another kind is no JSON, and what is an event as a whole has its attributes in it.
    assert (await send("text/plain")).status_code == 422
    [rejected] = (await send(SINGLE)).json()["rejected"]
    assert rejected["code"] == "event_not_readable"


@pytest.mark.parametrize(
    ("further", "accepted"),
    [
        ([("ce-data", "{}"), ("ce-datacontenttype", "text/plain"), ("ce-", "x")], 1),
        ([("ce-id", "another")], 0),
        ([("ce-subject", "11111111-1111-4111-8111-111111111111")], 0),
        ([("ce-source", "%0D%0Ax-other: 1")], 0),
    ],
)
async def test_no_header_says_more_than_its_one_attribute(
    service: Service, ada: UUID, further: list[tuple[str, str]], accepted: int
) -> None:
    """What is the body's is not a header's, and what is said twice is not said."""
    event = an_event(ada)
    attributes = [(f"ce-{name}", str(value)) for name, value in event.items() if name != "data"]
    told = await service.billing.public.post(
        "/billing/usage/events",
        content=json.dumps(event["data"]),
        headers=[
            *service.headers.items(),
            *attributes,
            *further,
            ("content-type", "application/json"),
        ],
    )
    assert (told.status_code, told.json()["accepted"]) == (202, accepted), told.text
    assert len(told.json()["rejected"]) == 1 - accepted


@pytest.mark.parametrize("value", ["%", "%zz", "%ff", "%ed%a0%80", "a%00b", "\xff"])
async def test_a_header_that_says_nothing_readable_is_no_failure(
    service: Service, ada: UUID, value: str
) -> None:
    event = an_event(ada)
    attributes: dict[bytes, bytes] = {
        f"ce-{name}".encode(): str(value).encode()
        for name, value in event.items()
        if name != "data"
    }
    told = await service.billing.public.post(
        "/billing/usage/events",
        content=json.dumps(event["data"]),
        headers=[
            *((name.encode(), text.encode()) for name, text in service.headers.items()),
            *(attributes | {b"ce-id": value.encode("latin-1")}).items(),
            (b"content-type", b"application/json"),
        ],
    )
    assert told.status_code == 202, told.text
    body = told.json()
    assert body["accepted"] + len(body["rejected"]) == 1


async def test_a_flood_of_single_reports_is_told_to_wait(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.billing.api.outside_usage.REPORTS_A_MINUTE", 2)
    answers = [await service.post([an_event(service.id)]) for _ in range(3)]
    assert [answer.status_code for answer in answers].count(429) >= 1
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "too_many_reports"
    assert int(refused.headers["retry-after"]) > 0


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@hypothesis_settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    field=st.sampled_from(["id", "source", "time", "subject", "data", "specversion", "type"]),
    value=_ANYTHING,
    inner=st.sampled_from(["meter", "quantity", "unit", "model", "request_id", "session_id"]),
)
async def test_no_event_breaks_anything(
    billing: Billing, field: str, value: Any, inner: str
) -> None:
    service = Service(billing)
    event = an_event(service.id)
    event["data"][inner] = value
    answer = await service.post([{**an_event(service.id), field: value}, event])
    assert answer.status_code in {202, 422, 429}, answer.text


def test_the_identity_is_that_of_the_key_and_the_time() -> None:
    ada, at = UserId(uuid4()), datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)

    def event(**changes: Any) -> OutsideEvent:
        facts = {
            "reporter": ada,
            "source": "/s",
            "external_id": "1",
            "user_id": ada,
            "occurred_at": at,
            "meter": "screenshot",
            "quantity": Decimal(1),
            **changes,
        }
        return OutsideEvent(**facts)

    id_ = event().event_id
    assert id_.version == 7
    assert id_.int >> 80 == first_id_at(at).int >> 80
    assert event(quantity=7).event_id == id_
    others = [event(source="/t"), event(external_id="2"), event(reporter=UserId(uuid4()))]
    assert id_ not in {other.event_id for other in others}
    same = [
        event(reporter=UserId(uuid4())),
        event(metadata={"a": 1}),
        event(quantity=Decimal("1.0")),
    ]
    assert {one.content for one in same} == {event(quantity=Decimal(1)).content}
    differs = [*others[:2], event(quantity=Decimal(2)), event(user_id=UserId(uuid4()))]
    assert event().content not in {other.content for other in differs}
