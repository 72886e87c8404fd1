"""What speech does without what stands around it, beside what `test_speech` says of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

from tests.support.kept_speech import write_kept_speech_keys
from tests.support.voice_service import Surroundings, Voice, problem, running_voice
from tests.support.voice_sockets import RACHEL, at_realtime

NOWHERE = "redis://127.0.0.1:1/0"


async def test_without_a_broker_speech_goes_on_and_its_usage_waits(
    surroundings: Surroundings,
) -> None:
    async with running_voice(surroundings, broker_url=NOWHERE) as voice:
        ada = voice.person("free")
        assert (await voice.say(ada)).status_code == 200
        (usage,) = await voice.usage(ada)  # in the outbox, for the relay to send when it can
        assert usage["outcome"] == "done"


async def test_without_valkey_what_is_kept_serves_paid_tiers_and_free_ones_wait(
    surroundings: Surroundings, tmp_path: Path
) -> None:
    keys = write_kept_speech_keys(tmp_path / "keys.json")
    async with running_voice(surroundings, cache_keys_file=keys) as voice:
        free, pro = voice.person("free"), voice.person("pro")
        for person in (free, pro):
            await voice.say(person)
        async with asyncio.timeout(10):
            while await _kept(voice, [free.id, pro.id]) != 2:
                await asyncio.sleep(0.01)
    async with running_voice(surroundings, cache_keys_file=keys, cache_url=NOWHERE) as voice:
        refused = await voice.say(free)
        assert (refused.status_code, problem(refused)["dependency"]) == (503, "cache")
        assert (await voice.say(pro)).headers["x-voice-cached"] == "true"


async def test_without_valkey_an_utterance_is_one_request_however_much_is_said(
    surroundings: Surroundings,
) -> None:
    async with running_voice(surroundings, cache_url=NOWHERE) as voice:
        ada = voice.person("pro")
        token = ada.headers["authorization"].removeprefix("Bearer ")
        async with at_realtime(voice.url, token) as device:
            await device.say("start", voice_id=RACHEL)
            for number in range(25):
                await device.say("say", text=f"Sentence number {number} of these. ")
                await device.say("flush")
                await device.until("limits")
            await device.say("end")
            done = await device.until("done")
        assert "error" not in device.names()
        (usage,) = await voice.usage(ada)
        assert done["data"]["usage"]["characters"] == usage["characters"] > 25 * 10


async def _kept(voice: Voice, users: list[UUID]) -> int:
    row = await voice.database.fetchrow(
        "select count(*) as kept from cached_utterance where user_id = any($1::uuid[])", users
    )
    assert row is not None
    return int(row["kept"])
