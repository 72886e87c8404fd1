"""What ElevenLabs' sockets are told, and how they are kept open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from services.voice.domain.script import Extras, Manner
from services.voice.providers import elevenlabs_live
from services.voice.providers.elevenlabs_live import ElevenLabsLive
from shared.clients.egress import Egress
from tests.support.voice import a_script, on_behalf_of

FLASH, DIALOGUE = "eleven_flash_v2_5", "eleven_v3"


@dataclass
class FakeSocket:
    """Opens a line that says nothing, and remembers what it was told."""

    paths: list[str] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    response: None = None

    @asynccontextmanager
    async def socket(self, _provider: str, path: str, *, by: object) -> AsyncIterator[FakeSocket]:
        self.paths.append(path)
        yield self

    async def send(self, message: str) -> None:
        self.told.append(orjson.loads(message))

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.paths[-1]).query)


def vendor() -> tuple[ElevenLabsLive, FakeSocket]:
    egress = FakeSocket()
    return ElevenLabsLive(cast(Egress, egress)), egress


def a_manner(model: str, **wishes: Any) -> Manner:
    return a_script(tier="enterprise", model=model, **wishes)


@pytest.mark.parametrize(("speed", "told"), [(3.0, 1.2), (0.25, 0.7), (1.1, 1.1)])
async def test_a_speed_is_brought_within_what_the_socket_takes(speed: float, told: float) -> None:
    live, egress = vendor()
    async with live.live(a_manner(FLASH, settings={"speed": speed}), by=on_behalf_of()):
        assert egress.told[0]["voice_settings"]["speed"] == told


async def test_the_newest_models_are_told_of_stability_alone() -> None:
    live, egress = vendor()
    settings = {"stability": 0.5, "style": 0.3, "speed": 1.1}
    async with live.live(a_manner(DIALOGUE, settings=settings), by=on_behalf_of()):
        assert egress.told[0]["voice_settings"] == {"stability": 0.5}
    assert "inactivity_timeout" not in egress.query, "nobody can ask for it there"


async def test_their_line_is_kept_open_until_the_text_is_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(elevenlabs_live, "_KEEP_ALIVE_SECONDS", 0.01)
    live, egress = vendor()
    waiting = {"keep_alive": True}
    async with live.live(a_manner(DIALOGUE), by=on_behalf_of()) as line:
        async with asyncio.timeout(5):
            while egress.told.count(waiting) < 3:
                await asyncio.sleep(0.01)
        await line.finish()
        said = len(egress.told)
        await asyncio.sleep(0.05)
        assert egress.told[said:] == []
    assert egress.told[-1] == {"close_socket": True}


async def test_their_line_is_not_kept_open_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elevenlabs_live, "_KEEP_ALIVE_SECONDS", 0.005)
    monkeypatch.setattr(elevenlabs_live, "_INACTIVITY_SECONDS", 0.1)
    live, egress = vendor()
    async with live.live(a_manner(DIALOGUE), by=on_behalf_of()) as line:
        await line.say("Well.")
        async with asyncio.timeout(5):
            said = 0
            while said < len(egress.told):
                said = len(egress.told)
                await asyncio.sleep(0.1)
        assert egress.told[-1] == {"keep_alive": True}


async def test_the_other_models_are_asked_for_their_patience() -> None:
    live, egress = vendor()
    async with live.live(a_manner(FLASH), by=on_behalf_of()):
        assert egress.query["inactivity_timeout"] == ["180"]
        assert "enable_logging" not in egress.query


@pytest.mark.parametrize("model", [FLASH, DIALOGUE])
async def test_who_wants_nothing_kept_is_heard(model: str) -> None:
    live, egress = vendor()
    manner = a_manner(model, extras=Extras(query="enable_logging=false"))
    async with live.live(manner, by=on_behalf_of()):
        assert egress.query["enable_logging"] == ["false"]
