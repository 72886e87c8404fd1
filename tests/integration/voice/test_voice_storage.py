"""Own settings and clones on the real PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from services.voice.actions.forget_idempotency_keys import ForgetIdempotencyKeys
from services.voice.actions.forget_user import ForgetUser
from services.voice.domain.clone import Clone, CloneId, CloneState, MadeVoice
from services.voice.domain.script import SettingsWish
from services.voice.domain.voice import VoiceId
from services.voice.storage.speeches import SqlSpeeches
from services.voice.storage.unit_of_work import SqlWork
from shared.db.database import Database
from shared.erasure import ErasureId
from shared.ids import uuid7
from tests.support.revocations import HeardRevocations
from tests.support.voice import NOON, RACHEL, StoppedClock, a_user

ID = VoiceId(RACHEL)


def a_clone(**changes: Any) -> Clone:
    clone = Clone(
        user_id=a_user(), tier="pro", name="Me", sample_sha256s=("a" * 64,), created_at=NOON
    )
    return replace(clone, **{"id": CloneId(uuid7()), **changes})


async def test_two_changes_at_once_lose_nothing_of_each_other(database: Database) -> None:
    ada = a_user()

    async def change(**settings: float | bool | None) -> None:
        async with SqlWork(database) as work:
            await work.own_settings.change(ada, ID, settings, NOON)

    for _ in range(5):
        await asyncio.gather(
            change(stability=0.1), change(style=0.2), change(speed=1.1), change(speed=None)
        )
        async with SqlWork(database) as work:
            own = await work.own_settings.of(ada, ID)
        assert (own.stability, own.style) == (0.1, 0.2)
        await change(stability=None, style=None, speed=None)
        assert await database.fetch("select from voice_settings") == []
    async with SqlWork(database) as work:
        assert await work.own_settings.of(ada, ID) == SettingsWish()


async def test_settings_are_paged_by_voice(database: Database) -> None:
    ada = a_user()
    async with SqlWork(database) as work:
        for number in range(5):
            voice_id = VoiceId(f"voice{number}")
            await work.own_settings.change(ada, voice_id, {"use_speaker_boost": True}, NOON)
        await work.own_settings.change(a_user(), ID, {"style": 1}, NOON)
        first = await work.own_settings.page(ada, after=None, most=3)
        rest = await work.own_settings.page(ada, after=first[-1].voice_id, most=3)
    assert [own.voice_id for own in (*first, *rest)] == [f"voice{n}" for n in range(5)]
    assert first[0].settings == SettingsWish(use_speaker_boost=True)
    assert first[0].updated_at == NOON


async def test_a_clone_comes_and_goes(database: Database) -> None:
    clone = a_clone(idempotency_key="k", request_hash=b"h")
    async with SqlWork(database) as work:
        assert await work.clones.begin(clone)
        assert not await work.clones.begin(replace(clone, id=CloneId(uuid7())))
        assert await work.clones.begin(a_clone(idempotency_key="k", request_hash=b"h"))
        assert await work.clones.earlier(clone.maker, "k") == clone
        await work.clones.finish(clone.id, MadeVoice(ID, requires_verification=True))
        [ready] = await work.clones.of(clone.maker)
        assert ready == replace(
            clone, voice_id=ID, state=CloneState.READY, requires_verification=True
        )
        assert await work.clones.begin_removal(a_user(), ID, NOON) is None
        removing = await work.clones.begin_removal(clone.maker, ID, NOON)
        assert removing is not None
        assert (removing.state, removing.idempotency_key) == (CloneState.REMOVING, None)
        again = await work.clones.begin_removal(clone.maker, ID, NOON + timedelta(days=1))
        assert again == removing
        assert await work.clones.forget(clone.id)
        assert not await work.clones.forget(clone.id)


async def test_only_what_is_long_in_the_making_is_let_go(database: Database) -> None:
    lost, running, made = a_clone(), a_clone(created_at=NOON + timedelta(hours=1)), a_clone()
    async with SqlWork(database) as work:
        for clone in (lost, running, made):
            await work.clones.begin(clone)
        await work.clones.finish(made.id, MadeVoice(ID))
        assert await work.clones.forget_lost(NOON + timedelta(minutes=1), most=10) == 1
        assert await work.clones.of(lost.maker) == []
        assert len(await work.clones.of(running.maker)) == 1


async def test_a_day_later_the_keys_of_clones_are_free_again(database: Database) -> None:
    old, new, making = (
        a_clone(idempotency_key="k", request_hash=b"h", created_at=NOON + timedelta(hours=hours))
        for hours in (-25, -23, -25)
    )
    async with SqlWork(database) as work:
        for clone in (old, new, making):
            await work.clones.begin(clone)
        for clone in (old, new):
            await work.clones.finish(clone.id, MadeVoice(ID))
    clock, speeches = StoppedClock(NOON), SqlSpeeches(database)
    assert await ForgetIdempotencyKeys(speeches, lambda: SqlWork(database), clock)() == 1
    async with SqlWork(database) as work:
        assert await work.clones.earlier(old.maker, "k") is None
        assert [one.voice_id for one in await work.clones.of(old.maker)] == [ID]
        for clone in (new, making):
            assert await work.clones.earlier(clone.maker, "k") is not None


async def test_a_deleted_users_settings_and_clones_are_forgotten(database: Database) -> None:
    ada, grace = a_user(), a_user()
    async with SqlWork(database) as work:
        for user in (ada, grace):
            await work.own_settings.change(user, ID, {"style": 0.5}, NOON)
            await work.clones.begin(a_clone(user_id=user))
    forget = ForgetUser(lambda: SqlWork(database), StoppedClock(), HeardRevocations())
    await forget.begin([(ada, ErasureId(uuid4()))])
    for table in ("voice_settings", "cloned_voice"):
        rows = await database.fetch(f"select user_id from {table}")
        assert [row["user_id"] for row in rows] == [grace]
    [told] = await database.fetch("select envelope from outbox")
    assert told["envelope"]["type"] == "user.forgotten"


async def test_what_an_organisations_key_made_stays_without_its_user(database: Database) -> None:
    ada, firm = a_user(), uuid4()
    own, shared, other = a_clone(user_id=ada), a_clone(user_id=ada), a_clone()
    async with SqlWork(database) as work:
        for clone, organisation_id in ((own, None), (shared, firm), (other, firm)):
            await work.clones.begin(clone)
            made = MadeVoice(VoiceId(f"voice{clone.id.hex}"))
            await work.clones.finish(clone.id, made, organisation_id)
        # In pieces, and each of them once.
        assert [await work.clones.erase(ada, most=1) for _ in range(3)] == [1, 1, 0]
        left = await work.clones.of_organisation(firm)
        hidden = await work.clones.hidden_from(ada, [each.voice_id or ID for each in left])
    assert [(each.id, each.user_id) for each in left] == [
        (shared.id, None),
        (other.id, other.user_id),
    ]
    assert hidden == {each.voice_id for each in left}
