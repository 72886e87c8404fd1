"""What is charged when an answer comes in several goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from services.chat.domain.frames import Frame
from services.chat.providers import Patience, SpokenProvider, chat_wires
from shared.clients.egress import VendorConnectionLost
from shared.errors import ExpectedFailure
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.vendors.failures import NoUsableKey, VendorFailed, VendorRateLimited
from tests.support.wires import a_prompt

BY = OnBehalfOf(UserId(UUID(int=1)), "request-1", "token", UUID(int=9))
SOON = timedelta(seconds=1)
PAUSED = {
    "responseId": "r",
    "usageMetadata": {"promptTokenCount": 5, "thoughtsTokenCount": 9},
    "candidates": [{"finishReason": "CONTINUATION", "continuationToken": "more"}],
}


class Said:
    """An answer in one piece."""

    def __init__(self, status: int, document: Any) -> None:
        self.status = status
        self.headers: dict[str, str] = {}
        self._pieces = [orjson.dumps(document), b""]

    async def read_some(self, *, within: timedelta) -> bytes:
        return self._pieces.pop(0)

    async def read(self) -> bytes:
        return self._pieces[0]


class ScriptedEgress:
    """Answers one call after the other."""

    def __init__(self, *script: Said | Exception) -> None:
        self._script = list(script)

    @asynccontextmanager
    async def call(self, *_: Any, **__: Any) -> AsyncIterator[Said]:
        step = self._script.pop(0)
        if isinstance(step, Exception):
            raise step
        yield step


async def failure_of(*script: Said | Exception) -> ExpectedFailure:
    patience = Patience(first_byte=SOON, silence=SOON)
    egress: Any = ScriptedEgress(*script)
    frames: Sequence[Frame] = []
    with pytest.raises(ExpectedFailure) as failed:
        provider = SpokenProvider(chat_wires["gemini"], egress, patience)
        frames = [f async for f in provider.answer(a_prompt("gemini"), by=BY, stream=False)]
    assert not frames
    return failed.value


@pytest.mark.parametrize(
    "second",
    [
        Said(429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}),
        VendorConnectionLost("not reached", sent=False),
        NoUsableKey("No key."),
    ],
    ids=["refused", "not reached", "no key"],
)
async def test_a_go_that_fails_leaves_those_before_it_charged(second: Said | Exception) -> None:
    failure = await failure_of(Said(200, PAUSED), second)
    assert isinstance(failure, VendorFailed)
    assert failure.billed


async def test_the_first_go_fails_as_it_does() -> None:
    refused = Said(429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}})
    assert isinstance(await failure_of(refused), VendorRateLimited)
    failure = await failure_of(VendorConnectionLost("not reached", sent=False))
    assert isinstance(failure, VendorFailed)
    assert not failure.billed
