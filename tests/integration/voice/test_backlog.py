"""Unpaid speech waits while the relay does not tell what was used; paid speech goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from services.voice import wiring
from tests.support.outbox import relay_all
from tests.support.voice_service import Surroundings, Voice, problem, running_voice
from tests.support.voice_sockets import RACHEL, at_realtime

SHED = {"service": "voice", "tier": "free"}


@pytest.fixture
async def impatient(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Voice]:
    """A replica that bears a backlog of a second, before an outbox that is empty."""
    monkeypatch.setattr(wiring, "LOOK_SECONDS", 0.05)
    relay_all("voice", surroundings.database_url)
    async with running_voice(surroundings, shed_after_seconds=1) as voice:
        yield voice


async def until(shed: bool) -> None:
    async with asyncio.timeout(10):
        while (REGISTRY.get_sample_value("companion_tier_shed", SHED) == 1) is not shed:
            await asyncio.sleep(0.02)


async def test_unpaid_speech_waits_at_each_door_until_the_relay_has_caught_up(
    impatient: Voice,
) -> None:
    ada, grace = impatient.person("free"), impatient.person("pro")
    assert (await impatient.say(ada)).status_code == 200
    await impatient.until_settled(ada)
    await until(shed=True)

    answer = await impatient.say(ada, "Something else.")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert problem(answer)["code"] == "usage_backlog"
    for path, body in (
        ("/v1/audio/speech", {"model": "tts-1", "input": "Once more.", "voice": "alloy"}),
        (f"/elevenlabs/v1/text-to-speech/{RACHEL}", {"text": "And again."}),
    ):
        answer = await impatient.client.post(path, json=body, headers=ada.headers)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30"), answer.text
        assert "usage_backlog" in answer.text
    assert len(await impatient.speeches(ada)) == 1

    assert (await impatient.say(grace)).status_code == 200
    token = grace.headers["authorization"].removeprefix("Bearer ")
    async with at_realtime(impatient.url, token) as device:
        await device.utter("Hello there. ")
        await device.until("done")

    relay_all("voice", impatient.surroundings.database_url)
    await until(shed=False)
    assert (await impatient.say(ada, "Something else.")).status_code == 200
