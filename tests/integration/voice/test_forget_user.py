"""Forgetting and exporting a user of voice, on the real PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import httpx

from services.voice.actions.export_user import ExportUser
from services.voice.actions.forget_user import ForgetUser
from services.voice.domain.speech import Outcome, Settlement, SpeechId, Used, usage_fact
from services.voice.storage.speeches import SqlSpeeches
from services.voice.storage.unit_of_work import SqlWork
from shared.db.database import Database
from shared.erasure import ErasureId
from shared.ids import EventId, uuid7
from tests.support.revocations import HeardRevocations
from tests.support.tokens import identity_of
from tests.support.voice import NOON, StoppedClock, a_hold, a_user
from tests.support.voice_service import Surroundings, Voice

DONE = Settlement(Outcome.DONE, Used(6, "provider"), "vendor-1")


async def test_settled_speeches_go_and_a_running_one_waits(database: Database) -> None:
    speeches, ada = SqlSpeeches(database), a_user()
    holds = [replace(a_hold(), user_id=ada, id=SpeechId(uuid7())) for _ in range(3)]
    other = a_hold()
    for hold in (*holds, other):
        await speeches.hold(hold)
    for hold in (*holds[1:], other):
        await speeches.settle(hold.id, DONE, usage_fact(hold, DONE))
    forget = ForgetUser(lambda: SqlWork(database), StoppedClock(), HeardRevocations())

    await forget.begin([(ada, ErasureId(uuid4()))])
    rows = await database.fetch("select id, state from speech order by id")
    assert {row["id"] for row in rows} == {holds[0].id, other.id}
    told = "select 1 from outbox where envelope->>'type' = 'user.forgotten'"
    assert await database.fetch(told) == []

    await speeches.settle(holds[0].id, DONE, usage_fact(holds[0], DONE))
    await forget.go_on()
    assert [row["id"] for row in await database.fetch("select id from speech")] == [other.id]
    assert len(await database.fetch(told)) == 1


async def test_the_export_goes_through_all_pages(database: Database) -> None:
    speeches, ada = SqlSpeeches(database), a_user()
    made = [
        replace(
            a_hold(),
            user_id=ada,
            id=SpeechId(uuid4()),
            created_at=NOON + timedelta(minutes=number // 3),
            usage_event_id=EventId(uuid7()),
        )
        for number in range(12)
    ]
    for hold in (*made, a_hold()):
        await speeches.hold(hold)
    export = ExportUser(lambda: SqlWork(database))
    async with SqlWork(database) as work:
        first = await work.traces.page(ada, after=None, most=5)
        rest = await work.traces.page(ada, after=first[-1].id, most=50)
    whole = [speech async for page in export.speeches(ada) for speech in page]
    assert whole == [*first, *rest]
    assert {speech.id for speech in whole} == {hold.id for hold in made}


async def test_only_auth_gets_an_export(voice: Voice, surroundings: Surroundings) -> None:
    internal = httpx.ASGITransport(voice.process.internal)
    async with httpx.AsyncClient(transport=internal, base_url="http://voice") as client:
        for name, status in (("auth", 200), ("chat", 403)):
            identity = identity_of(surroundings.identity_trust_file.parent, name)
            answer = await client.get(
                f"/internal/users/{uuid4()}/export",
                headers={"authorization": f"Bearer {identity.token_for('voice')}"},
            )
            assert answer.status_code == status, answer.text
