"""What an organisation's keys were spent on: who may see it, and what is in it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.billing.actions import Actions
from services.billing.domain.correction import Deltas
from services.billing.domain.organisation_usage import KeyDimension, KeySpending
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import UnitPrices
from services.billing.storage.key_spending import statement
from shared.db.database import Database
from shared.erasure import ErasureId
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import UserId
from tests.integration.billing.harness import Billing
from tests.integration.billing.organisations import Place, StandInAuth
from tests.support.billing import NOON, a_speech, a_usage
from tests.support.problems import code_of
from tests.support.query_plans import most_rows

COST = 205  # of one call that `a_usage` makes
NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
MONTH = {"from": "2026-11-01", "to": "2026-11-30"}
STAFF = UserId(uuid4())


async def asked(office: Billing, firm: UUID, by: UUID, **params: Any) -> httpx.Response:
    return await office.get(f"organisations/{firm}/usage", by, params={**MONTH, **params})


async def shown(office: Billing, firm: UUID, by: UUID, **params: Any) -> dict[str, Any]:
    answer = await asked(office, firm, by, **params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("role", ["owner", "admin"])
async def test_who_decides_about_the_keys_sees_what_they_were_spent_on(
    office: Billing, members: dict[Place, str], role: str
) -> None:
    firm, ada, ben = uuid4(), uuid4(), uuid4()
    members[firm, ada] = role
    on_key: dict[str, Any] = {"key_organisation_id": firm, "at": NOON}
    await office.record(
        a_usage(user=ada, **on_key),
        *(a_usage(user=ben, **on_key) for _ in range(2)),
        a_usage(user=ben, **on_key | {"at": NOON + timedelta(days=1)}),
        a_speech(user=ben, **on_key),  # of a model without a price
        a_usage(user=ben, at=NOON),  # on a key of his own
        a_usage(user=ben, at=NOON, key_organisation_id=uuid4()),
        a_usage(user=ben, key_organisation_id=firm, at=NOON - timedelta(days=40)),
    )
    body = await shown(office, firm, ada, group_by="member,operation")
    totals = body["totals"]
    assert (totals["requests"], totals["unpriced_requests"]) == (5, 1)
    assert (totals["cost_microusd"], totals["cost_usd"]) == (4 * COST, "0.000820")
    assert (totals["input_tokens"], totals["output_tokens"]) == (4 * 1200, 4 * 350)
    assert (body["organisation_id"], body["next_cursor"]) == (str(firm), None)
    assert {
        (group["member"], group["operation"], group["requests"], group["cost_microusd"])
        for group in body["data"]
    } == {
        (str(ada), "chat", 1, COST),
        (str(ben), "chat", 3, 3 * COST),
        (str(ben), "voice", 1, None),
    }
    days = await shown(office, firm, ada, group_by="day")
    assert [(group["day"], group["requests"]) for group in days["data"]] == [
        ("2026-11-24", 4),
        ("2026-11-25", 1),
    ]
    assert days["totals"] == totals
    whole = await shown(office, firm, ada, group_by="")
    assert [whole["totals"]] == whole["data"] == [totals]


async def test_nobody_else_sees_it(office: Billing, members: dict[Place, str]) -> None:
    firm, other, ada, grace, ben, carl, stranger = (uuid4() for _ in range(7))
    members[firm, ada] = "owner"
    members[other, grace] = "owner"
    members[firm, ben], members[firm, carl] = "member", "billing"
    await office.record(a_usage(user=ben, at=NOON, key_organisation_id=firm))
    for person in (grace, stranger):
        refused = await asked(office, firm, person)
        assert code_of(refused) == (404, "organisation_usage_not_found")
    for person in (ben, carl):
        assert code_of(await asked(office, firm, person)) == (403, "usage_admin_required")
    # Whatever their token and the query say.
    claims = {"org": str(firm), "org_role": "owner"}
    path = f"/billing/organisations/{firm}/usage"
    claimed = await office.public.get(path, headers=office.mint.headers(grace, **claims))
    assert claimed.status_code == 404
    elsewhere = await asked(office, other, grace, organisation_id=str(firm))
    assert elsewhere.json()["totals"]["requests"] == 0
    assert (await office.public.get(path)).status_code == 401


async def test_without_auth_nothing_is_shown(
    office: Billing, members: dict[Place, str], auth: tuple[StandInAuth, str]
) -> None:
    firm, ada = uuid4(), uuid4()
    members[firm, ada] = "owner"
    auth[0].failing = 500
    try:
        assert (await asked(office, firm, ada)).status_code == 503
    finally:
        auth[0].failing = None


async def test_who_left_stays_as_an_id(office: Billing, members: dict[Place, str]) -> None:
    firm, ada, gone = uuid4(), uuid4(), uuid4()
    members[firm, ada], members[firm, gone] = "owner", "admin"
    await office.record(a_usage(user=gone, at=NOON, key_organisation_id=firm))
    assert (await asked(office, firm, gone)).status_code == 200
    del members[firm, gone]
    (group,) = (await shown(office, firm, ada, group_by="member"))["data"]
    assert (group["member"], group["requests"]) == (str(gone), 1)
    # And sees no more of it, from the next call on.
    assert code_of(await asked(office, firm, gone)) == (404, "organisation_usage_not_found")


async def test_a_member_sees_which_lines_ran_on_the_organisations_key(office: Billing) -> None:
    firm, ben = uuid4(), uuid4()
    ran, own = a_usage(user=ben, at=NOON, key_organisation_id=firm), a_usage(user=ben, at=NOON)
    await office.record(ran, own)
    lines = (await office.get("usage/records", ben, params=MONTH)).json()["data"]
    assert {line["event_id"]: line["key_organisation_id"] for line in lines} == {
        str(ran.id): str(firm),
        str(own.id): None,
    }
    for accept in ("text/csv", "application/x-ndjson"):
        headers = {"accept": accept}
        file = await office.get("usage/records", ben, params=MONTH, headers=headers)
        assert file.text.count(str(firm)) == 1
        assert "key_organisation_id" in file.text
    one = (await office.get(f"usage/records/{ran.id}", ben)).json()
    assert one["key_organisation_id"] == str(firm)
    # Their own sums hold both, as before.
    totals = (await office.get("usage", ben, params=MONTH)).json()["totals"]
    assert totals["requests"] == 2


async def test_pages_hold_every_group_once(office: Billing, members: dict[Place, str]) -> None:
    firm, ada = uuid4(), uuid4()
    members[firm, ada] = "owner"
    models = ["gpt-6-luna", "a\x1fb", 'quo"te', "é" * 300, "中" * 300]
    users = [uuid4() for _ in range(3)]
    await office.record(
        *(
            a_usage(user=user, model=model, at=NOON + timedelta(days=day), key_organisation_id=firm)
            for user in users
            for model in models
            for day in range(2)
        )
    )
    whole = await shown(office, firm, ada)
    assert len(whole["data"]) == 30
    for group_by in ("member,day,provider,model,operation", "model", "day,member", "model,day"):
        once = await shown(office, firm, ada, group_by=group_by)
        pages: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            page = await shown(office, firm, ada, group_by=group_by, limit=4, **cursor)
            assert page["totals"] == whole["totals"]
            assert len(page["data"]) <= 4
            pages += page["data"]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert pages == once["data"]


@pytest.mark.parametrize(
    "keys",
    [
        "x",
        "[" * 5_000,
        "{}",
        '{"a": 1}',
        "[]",
        '["a"]',
        '["a", "b", "c"]',
        "[1, 2]",
        '["0001-01-01", "\\u0000"]',
        '["0001-01-01", "\\ud800"]',
        '["2026-13-01", "x"]',
    ],
)
async def test_a_cursor_that_is_none_is_an_error_of_the_client(
    office: Billing, members: dict[Place, str], keys: str
) -> None:
    firm, ada = uuid4(), uuid4()
    members[firm, ada] = "owner"
    cursor = base64.urlsafe_b64encode(keys.encode()).decode().rstrip("=")
    answer = await asked(office, firm, ada, group_by="day,model", cursor=cursor)
    assert code_of(answer) == (422, "bad_cursor")


async def test_any_day_that_is_one_may_stand_in_a_cursor(
    office: Billing, members: dict[Place, str]
) -> None:
    firm, ada = uuid4(), uuid4()
    members[firm, ada] = "owner"
    for day in ("0001-01-01", "9999-12-31"):
        keys = json.dumps([day, "x"])
        cursor = base64.urlsafe_b64encode(keys.encode()).decode().rstrip("=")
        await shown(office, firm, ada, group_by="day,model", cursor=cursor)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"group_by": "user"}, "bad_grouping"),
        ({"group_by": "day,day"}, "bad_grouping"),
        ({"from": "2026-01-01", "to": "2026-11-30"}, "bad_period"),
        ({"from": "yesterday"}, "bad_period"),
        ({"limit": "1001"}, "invalid_request"),
        ({"limit": "0"}, "invalid_request"),
    ],
)
async def test_what_can_not_be_reported_is_said(
    office: Billing, members: dict[Place, str], params: dict[str, str], code: str
) -> None:
    firm, ada = uuid4(), uuid4()
    members[firm, ada] = "owner"
    answer = await asked(office, firm, ada, **params)
    assert code_of(answer) == (422, code)


async def of(work: NewUnitOfWork, firm: UUID, *dimensions: KeyDimension) -> KeySpending:
    async with work() as open_work:
        return await open_work.key_spending.of(
            firm, NOVEMBER, dimensions, sandbox=None, after=None, most=100
        )


async def test_corrections_and_later_prices_are_in_it(
    actions: Actions, work: NewUnitOfWork, database: Database
) -> None:
    firm, ben, carl = uuid4(), uuid4(), uuid4()
    on_key: dict[str, Any] = {"key_organisation_id": firm, "at": NOON}
    voided, adjusted = a_usage(user=ben, **on_key), a_usage(user=ben, **on_key)
    own = a_usage(user=ben, at=NOON)
    await actions.record_usage([voided, adjusted, own, a_speech(user=carl, **on_key)])
    await actions.link_ledger()
    assert (await of(work, firm)).totals.unpriced_requests == 1
    for event_id in (voided.id, own.id):
        await actions.correct_usage(event_id, None, reason="Not paid.", by=STAFF)
    await actions.set_price(
        ("elevenlabs", "eleven_flash_v2_5"),
        UnitPrices(characters=1_000_000),
        effective_from=NOON - timedelta(days=1),
        by=STAFF,
    )
    await actions.rate_unpriced_usage()
    found = await of(work, firm, KeyDimension.MEMBER)
    assert (found.totals.requests, found.totals.unpriced_requests) == (2, 0)
    by_member = {group.keys: group.sums for group in found.groups}
    assert by_member[ben,].requests == 1
    assert by_member[ben,].known_cost == COST
    assert found.totals.known_cost == COST + by_member[carl,].known_cost
    # Whoever has nothing left is no group.
    await actions.correct_usage(adjusted.id, None, reason="Not paid.", by=STAFF)
    found = await of(work, firm, KeyDimension.MEMBER)
    assert [group.keys for group in found.groups] == [(carl,)]


async def test_what_was_adjusted_counts_as_it_is_now(actions: Actions, work: NewUnitOfWork) -> None:
    firm, ben = uuid4(), uuid4()
    mine, own = a_usage(user=ben, at=NOON, key_organisation_id=firm), a_usage(user=ben, at=NOON)
    await actions.record_usage([mine, own])
    less = Deltas(input_tokens=-200, output_tokens=-50, cost_microusd=-31)
    for fact in (mine, own):
        await actions.correct_usage(fact.id, less, reason="Counted again.", by=STAFF)
    totals = (await of(work, firm)).totals
    assert (totals.requests, totals.input_tokens, totals.output_tokens) == (1, 1000, 300)
    assert totals.known_cost == COST - 31


async def test_who_was_erased_stays_as_an_id(actions: Actions, work: NewUnitOfWork) -> None:
    firm, gone = uuid4(), UserId(uuid4())
    await actions.record_usage([a_usage(user=gone, at=NOON, key_organisation_id=firm)])
    before = await of(work, firm, KeyDimension.MEMBER)
    await actions.forget_user.begin([(gone, ErasureId(uuid4()))])
    assert await of(work, firm, KeyDimension.MEMBER) == before
    assert [group.keys for group in before.groups] == [(gone,)]


async def test_batches_at_once_and_repeated_count_once(
    actions: Actions, work: NewUnitOfWork
) -> None:
    firm = uuid4()
    batches = [
        [a_usage(at=NOON, key_organisation_id=firm if n % 2 else None) for n in range(20)]
        for _ in range(10)
    ]
    await asyncio.gather(*(actions.record_usage(batch) for batch in [*batches, *batches]))
    assert (await of(work, firm)).totals.requests == 100


async def test_the_ledger_is_not_read_for_it(
    database: Database, actions: Actions, work: NewUnitOfWork
) -> None:
    firm = uuid4()
    crowd = [a_usage(at=NOON + timedelta(seconds=n)) for n in range(3_000)]
    mine = [a_usage(user=uuid4(), at=NOON, key_organisation_id=firm) for _ in range(20)]
    for start in range(0, len(crowd), 500):
        await actions.record_usage(crowd[start : start + 500])
    await actions.record_usage(mine)
    await actions.correct_usage(mine[0].id, None, reason="Not paid.", by=STAFF)
    await database.execute("analyze")
    async with database.connection() as connection:
        told = await connection.fetchrow(
            f"explain (analyze, format json) {statement([KeyDimension.MEMBER], is_first=True)}",
            firm,
            NOVEMBER.begins,
            NOVEMBER.ends,
            None,
            100,
        )
    assert told is not None
    assert most_rows(json.loads(told[0])) <= 30
    assert (await of(work, firm)).totals.requests == 19


@pytest.mark.parametrize("seed", range(3))
async def test_sums_are_those_of_the_calls_whatever_they_are_grouped_by(
    seed: int, actions: Actions, work: NewUnitOfWork
) -> None:
    chance = Random(seed)
    firms = [uuid4(), uuid4(), None]
    users = [uuid4() for _ in range(3)]
    usage = [
        a_usage(
            user=chance.choice(users),
            at=NOON + timedelta(hours=chance.randrange(-100, 100)),
            provider=chance.choice(["openai", "gemini"]),
            model=chance.choice(["gpt-6-luna", "no-such-model"]),
            sandbox=chance.random() < 0.2,
            input_tokens=chance.randrange(1_000, 9_000),
            key_organisation_id=chance.choice(firms),
        )
        for _ in range(150)
    ]
    await actions.record_usage(usage)
    voided = {fact.id for fact in chance.sample(usage, 20)}
    for event_id in voided:
        await actions.correct_usage(event_id, None, reason="Not paid.", by=STAFF)
    for firm in firms[:2]:
        assert firm is not None
        for sandbox in (None, True, False):
            dimensions = chance.sample(list(KeyDimension), chance.randrange(1, 6))
            async with work() as open_work:
                found = await open_work.key_spending.of(
                    firm, NOVEMBER, dimensions, sandbox=sandbox, after=None, most=1_000
                )
            counted = [
                fact
                for fact in usage
                if fact.event.key_organisation_id == firm
                and fact.id not in voided
                and sandbox in (None, fact.event.sandbox)
            ]
            due: dict[tuple[Any, ...], list[int]] = {}
            for fact in counted:
                sums = due.setdefault(key_of(fact, dimensions), [0, 0])
                sums[0] += 1
                sums[1] += fact.event.input_tokens
            assert {
                group.keys: [group.sums.requests, group.sums.input_tokens] for group in found.groups
            } == due
            assert found.totals.requests == len(counted)


def key_of(fact: Fact[UsageRecorded], dimensions: Sequence[KeyDimension]) -> tuple[Any, ...]:
    values = {
        KeyDimension.MEMBER: fact.event.user_id,
        KeyDimension.DAY: fact.time.date(),
        KeyDimension.PROVIDER: fact.event.provider,
        KeyDimension.MODEL: fact.event.model,
        KeyDimension.OPERATION: fact.event.operation,
    }
    return tuple(values[dimension] for dimension in dimensions)
