"""A relayed call with its vendor and its client, both by a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.chat.actions._read_answer import Drains
from services.chat.actions.relay_call import RelayCall, Relaying
from services.chat.api.dropin_call import VendorCall
from services.chat.api.dropin_openai_calls import read_chat
from services.chat.domain.capabilities import OnLeaving
from services.chat.domain.frames import Began, Ended, Frame, Text
from services.chat.domain.raw_calls import RawAnswer, RawCall, RawPiece, RawRefusal
from services.chat.domain.relayed import AnswerHead, RepeatedAnswer
from services.chat.domain.usage import Usage
from shared.errors import ExpectedFailure
from shared.identity import OnBehalfOf
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS
from shared.vendors.failures import VendorFailed
from tests.support.chat import Desk, MemoryTurns, ScriptedProvider, ada

BODY = b'{"model":"gpt-6-luna","stream":%b,"messages":[{"role":"user","content":"hi"}]}'


BY = OnBehalfOf(ada, "request-1", "token", UUID(int=9))


USAGE = Usage(input_tokens=10, output_tokens=2)


Step = RawPiece | BaseException | asyncio.Event


def piece(data: bytes, *frames: Frame) -> RawPiece:
    return RawPiece(data, frames)


ANSWER: tuple[Step, ...] = (
    piece(b"1", Began("c-1", "gpt-6-luna"), Text("one ")),
    piece(b"2", Text("two")),
    piece(b"3", Ended("stop", USAGE)),
)


@dataclass
class ScriptedVendor:
    """Answers by a script, or refuses."""

    script: Sequence[Step] = ANSWER
    fails_first: int = 0
    on_leaving: OnLeaving = OnLeaving.CANCEL
    calls: list[RawCall] = field(default_factory=list)
    taken: int = 0
    closed: int = 0

    status = 200
    headers = {  # noqa: RUF012 - never changed
        "content-type": "text/event-stream",
        "request-id": "req-1",
        "x-key": "of the vendor's",
    }

    @asynccontextmanager
    async def call(self, call: RawCall, *, by: OnBehalfOf) -> AsyncIterator[RawAnswer]:
        self.calls.append(call)
        if len(self.calls) <= self.fails_first:
            raise VendorFailed("openai", billed=False)
        try:
            yield self  # type: ignore[misc]
        finally:
            self.closed += 1

    async def pieces(self) -> AsyncIterator[RawPiece]:
        for step in self.script:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                self.taken += 1
                yield step


@dataclass
class Client:
    """Hears what is said; may be slow, or leave."""

    heard: list[bytes] = field(default_factory=list)
    ended: list[ExpectedFailure | None] = field(default_factory=list)
    head: AnswerHead | None = None
    leaves: asyncio.Event = field(default_factory=asyncio.Event)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    is_slow: bool = False

    async def begin(self, head: AnswerHead) -> None:
        self.head = head

    async def hear(self, data: bytes) -> None:
        if self.is_slow:
            await self.reads.wait()
        self.heard.append(data)

    async def end(self, failure: ExpectedFailure | None) -> None:
        self.ended.append(failure)

    async def gone(self) -> None:
        await self.leaves.wait()


@dataclass
class Relay:
    """Everything that a relayed call needs."""

    vendor: Any
    desk: Desk = field(default_factory=lambda: Desk(MemoryTurns(), ScriptedProvider()))
    client: Client = field(default_factory=Client)
    drains: Drains = field(default_factory=Drains)
    by: OnBehalfOf = BY
    longest: timedelta = timedelta(minutes=10)
    body: bytes = BODY
    read: Callable[[bytes], VendorCall] = read_chat
    tier: str = "free"

    async def __call__(
        self, *, streamed: bool = True, key: str | None = None
    ) -> RepeatedAnswer | RawRefusal | None:
        desk = self.desk
        action = RelayCall(
            desk.turns,
            desk.open,
            desk.settle,
            desk.running,
            self.vendor,
            ModelCatalogue(),
            self.drains,
            self.longest,
        )
        call = self.read(self.body % (b"true" if streamed else b"false"))
        return await action(Relaying(call, self.by, TIERS[self.tier], key), self.client)

    async def begun(self, pieces: int) -> asyncio.Task[Any]:
        """The call under way, with so many pieces taken from the vendor."""
        task = asyncio.create_task(self())
        async with asyncio.timeout(1):
            while self.vendor.taken < pieces:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task
