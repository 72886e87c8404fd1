"""Speaks a vendor's wire over the egress."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import orjson

from services.chat.domain.capabilities import Capabilities, OnLeaving
from services.chat.domain.errors import VendorRejectedRequest
from services.chat.domain.frames import Began, Ended, Frame, Text, Thinking
from services.chat.domain.ports import AnswerAhead
from services.chat.domain.raw_calls import RawAnswer, RawCall, RawPiece, RawRefusal
from services.chat.domain.turn import Prompt
from services.chat.domain.usage import Usage
from services.chat.providers._events import WholeEvents
from services.chat.providers._haste import may_wait
from services.chat.providers._registry import Patience
from services.chat.providers._wire import Reader, Wire, WireRequest
from shared.clients.egress import Egress, VendorAnswer, VendorCall, VendorConnectionLost
from shared.errors import ExpectedFailure
from shared.identity import OnBehalfOf
from shared.values import dataclass, replace
from shared.vendors.failures import VendorFailed

# A vendor that pauses for ever must not be asked for ever.
_MOST_CONTINUATIONS = 8
_SLOWEST_TOKENS_PER_SECOND = 20
# The egress gives up after ten minutes of silence.
_LONGEST_WAIT = timedelta(seconds=590)


class SpokenProvider:
    """A provider made of its wire and the egress."""

    def __init__(self, wire: Wire, egress: Egress, patience: Patience) -> None:
        self._wire = wire
        self._egress = egress
        self._patience = patience

    @property
    def name(self) -> str:
        return self._wire.name

    @property
    def capabilities(self) -> Capabilities:
        return self._wire.capabilities

    def answer(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AsyncIterator[Frame]:
        """The answer as frames, also when the vendor gives it in several goes. What the vendor
        would not take is refused at once, before it is asked."""
        goes = _Goes(self._wire, self._wire.request(prompt, stream=stream))
        patience = _for_first_byte(self._patience, prompt.choice.max_output_tokens, streamed=stream)
        return self._frames(goes, by, patience)

    def ahead(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AnswerAhead | None:
        if not self._egress.has_free():
            return None
        request = self._wire.request(prompt, stream=stream)
        patience = _for_first_byte(self._patience, prompt.choice.max_output_tokens, streamed=stream)
        call = self._asked(request, by, patience)
        call.prepare()
        frames = partial(self._frames, _Goes(self._wire, request), by, patience, call)
        return _Ahead(call, frames)

    async def _frames(
        self, goes: _Goes, by: OnBehalfOf, patience: timedelta, first: VendorCall | None = None
    ) -> AsyncIterator[Frame]:
        # One generator and no other within: each piece of a stream passes through all there are.
        while (request := goes.next()) is not None:
            try:
                call, first = first or self._asked(request, by, patience), None
                async with call as answer:
                    if answer.status != 200:
                        document = await _document(answer)
                        raise self._wire.refusal(answer.status, document, answer.headers)
                    reader, silence = request.reader(), self._patience.silence
                    is_prose = False
                    while data := await answer.read_some(
                        within=silence, gather=may_wait if is_prose else None
                    ):
                        for frame in reader.feed(data):
                            if isinstance(frame, Text):
                                is_prose = True
                                yield frame
                                continue
                            is_prose = isinstance(frame, Thinking)
                            if (kept := goes.kept(frame)) is not None:
                                yield kept
                    for frame in reader.end():
                        if (kept := goes.kept(frame)) is not None:
                            yield kept
            except VendorConnectionLost as error:
                billed = error.sent or goes.is_continued
                raise VendorFailed(self.name, billed=billed) from error
            except ExpectedFailure as failure:
                if not goes.is_continued:
                    raise
                # What came before is charged, so that none of it may be asked for once more.
                raise VendorFailed(self.name) from failure

    def _asked(self, request: WireRequest, by: OnBehalfOf, patience: timedelta) -> VendorCall:
        return self._egress.call(
            "POST",
            self.name,
            request.path,
            by=by,
            body=self._written(request.body),
            headers=request.headers,
            first_byte_within=patience,
        )

    def _written(self, body: Mapping[str, Any]) -> bytes:
        try:
            return orjson.dumps(body)
        except orjson.JSONEncodeError as error:
            said = f"What is asked of {self.name} can't be written as JSON."
            raise VendorRejectedRequest(said, provider=self.name, again=False) from error

    async def _pieces(self, answer: VendorAnswer, reader: Reader) -> AsyncIterator[RawPiece]:
        silence = self._patience.silence
        while data := await answer.read_some(within=silence):
            yield RawPiece(data, reader.feed(data))
        if frames := reader.end():
            yield RawPiece(b"", frames)

    @asynccontextmanager
    async def raw(self, call: RawCall, *, by: OnBehalfOf) -> AsyncIterator[RawAnswer]:
        """A client's own call, passed through."""
        try:
            async with self._egress.call(
                call.method,
                self.name,
                call.path,
                by=by,
                body=call.body,
                headers=call.headers,
                first_byte_within=_for_first_byte(
                    self._patience, call.max_output_tokens, streamed=call.streamed
                ),
            ) as answer:
                yield _Passing(self, answer, call)
        except VendorConnectionLost as error:
            raise VendorFailed(self.name, billed=error.sent) from error


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A call whose head may go ahead."""

    call: VendorCall
    frames: Callable[[], AsyncIterator[Frame]]

    def go(self) -> bool:
        return self.call.go_ahead()

    def leave(self) -> None:
        self.call.leave()


class _Goes:
    """The goes in which a vendor gives one answer: nearly always one."""

    def __init__(self, wire: Wire, request: WireRequest) -> None:
        self._wire = wire
        self._request = request
        self._following: WireRequest | None = request
        self._used: Usage | None = None
        self._began = Began(None, None)
        self._count = 0

    @property
    def is_continued(self) -> bool:
        return self._count > 1

    def next(self) -> WireRequest | None:
        """What is to be asked now; None when the answer is whole."""
        following, self._following = self._following, None
        if following is not None:
            self._request = following
            self._count += 1
        return following

    def kept(self, frame: Frame) -> Frame | None:
        """A frame as the whole answer has it; None for one between two goes."""
        if isinstance(frame, Began):
            if not self.is_continued:
                self._began = frame
                return frame
            told = _added(self._used, frame.usage or Usage())
            return replace(self._began, usage=told)
        if isinstance(frame, Ended):
            if self.is_continued:
                frame = replace(frame, usage=_added(self._used, frame.usage))
            if frame.reason == "paused" and self._count <= _MOST_CONTINUATIONS:
                self._following = self._wire.continued(self._request, frame)
            if self._following is not None:
                self._used = frame.usage
                return None
        return frame


class _Passing:
    """An answer that is passed through and read along."""

    def __init__(self, provider: SpokenProvider, answer: VendorAnswer, call: RawCall) -> None:
        self._provider = provider
        self._answer = answer
        self._call = call

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    @property
    def on_leaving(self) -> OnLeaving:
        return self._provider.capabilities.on_leaving

    def pieces(self) -> AsyncIterator[RawPiece]:
        reader = self._provider._wire.raw_reader(self._call.path, streamed=self._call.streamed)
        if self._call.streamed:
            return self._events(reader, WholeEvents(self._provider.name))
        return self._provider._pieces(self._answer, reader)

    async def _events(self, reader: Reader, events: WholeEvents) -> AsyncIterator[RawPiece]:
        silence, is_prose = self._provider._patience.silence, False
        while data := await self._answer.read_some(
            within=silence, gather=may_wait if is_prose else None
        ):
            piece, failure = _heard_all(reader, events.feed(data))
            if piece.frames:
                is_prose = isinstance(piece.frames[-1], Text | Thinking)
            if piece.data:
                yield piece
            # Told last: what was said before it was said.
            if failure is not None:
                raise failure
        rest = events.rest()
        yield RawPiece(rest, [*_heard(reader, rest), *reader.end()])

    async def body(self) -> bytes:
        name, body = self._provider.name, await self._answer.read()
        document = _parsed(body)
        if not document or "error" in document:
            raise VendorFailed(name, billed=False)
        return body

    async def refusal(self) -> RawRefusal:
        document = await _document(self._answer)
        failure = self._provider._wire.refusal(self.status, document, self.headers)
        return RawRefusal(self.status, document, self.headers, failure)


class RawEgress:
    """Passes clients' own calls through, each to its provider."""

    def __init__(self, providers: Mapping[str, SpokenProvider]) -> None:
        self._providers = providers

    @asynccontextmanager
    async def call(self, call: RawCall, *, by: OnBehalfOf) -> AsyncIterator[RawAnswer]:
        async with self._providers[call.provider].raw(call, by=by) as answer:
            yield answer


def _for_first_byte(patience: Patience, max_output_tokens: int, *, streamed: bool) -> timedelta:
    """Of a whole answer nothing comes until all of it is written."""
    if streamed:
        return patience.first_byte
    writing = timedelta(seconds=max_output_tokens / _SLOWEST_TOKENS_PER_SECOND)
    return max(patience.first_byte, min(patience.first_byte + writing, _LONGEST_WAIT))


def _heard_all(reader: Reader, events: Sequence[bytes]) -> tuple[RawPiece, ExpectedFailure | None]:
    """What the events say, up to one that tells a failure."""
    told: list[bytes] = []
    frames: list[Frame] = []
    failure: ExpectedFailure | None = None
    for event in events:
        try:
            frames += _heard(reader, event)
        except ExpectedFailure as found:
            failure = found
            break
        told.append(event)
    return RawPiece(b"".join(told), frames), failure


def _heard(reader: Reader, event: bytes) -> Sequence[Frame]:
    """What one event says. Raises the failure that it tells, also where the reader would keep that
    for the next one."""
    frames = reader.feed(event)
    if b'"error"' in event:
        reader.feed(b"")
    return frames


def _added(first: Usage | None, second: Usage | None) -> Usage | None:
    """The usage of both goes, each a call of its own; unknown when one of them is."""
    if first is None or second is None:
        return None
    return Usage(
        input_tokens=first.input_tokens + second.input_tokens,
        cache_read_tokens=first.cache_read_tokens + second.cache_read_tokens,
        cache_write_tokens=first.cache_write_tokens + second.cache_write_tokens,
        output_tokens=first.output_tokens + second.output_tokens,
        output_reasoning_tokens=first.output_reasoning_tokens + second.output_reasoning_tokens,
        source=second.source,
        service_tier=second.service_tier,
        asides=(*first.asides, *[call for call in second.calls if call.total_tokens]),
    )


async def _document(answer: VendorAnswer) -> Mapping[str, Any]:
    return _parsed(await answer.read())


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    # Gemini's error can arrive wrapped in a list of one.
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    return parsed if isinstance(parsed, dict) else {}
