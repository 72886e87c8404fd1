"""What it takes to pass a client's own call through to a vendor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from typing import Any, Protocol

from services.chat.domain.capabilities import OnLeaving
from services.chat.domain.frames import Frame
from shared.errors import ExpectedFailure
from shared.identity import OnBehalfOf
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RawCall:
    """A call in the vendor's own wire, as a client of its official SDK made it. The cap tells how
    long a whole answer may take, of which nothing comes until all of it is there."""

    provider: str
    path: str
    body: bytes
    streamed: bool
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    max_output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RawPiece:
    """Bytes of the vendor's answer as they came, and what they say."""

    data: bytes
    frames: Sequence[Frame]


@dataclass(frozen=True, slots=True)
class RawRefusal:
    """A vendor's answer that is none, and what it means. The document may echo the key: nobody gets
    to see more of it than words that are known beforehand."""

    status: int
    document: Mapping[str, Any] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    failure: ExpectedFailure


class RawAnswer(Protocol):
    """The vendor's answer to a RawCall, once its head is here."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def on_leaving(self) -> OnLeaving: ...

    def pieces(self) -> AsyncIterator[RawPiece]:
        """The body as it comes, a stream in whole events. Raises VendorFailed when it was cut, or
        the failure that the vendor tells in it; the event that tells it is not yielded, since it
        may echo the key."""
        ...

    async def body(self) -> bytes:
        """The whole body of an answer that uses nothing. Raises VendorFailed when it is none."""
        ...

    async def refusal(self) -> RawRefusal:
        """Of an answer that is none: what the vendor says."""
        ...


class RawVendors(Protocol):
    """Passes calls through to a vendor unchanged, reading along for their usage."""

    def call(self, call: RawCall, *, by: OnBehalfOf) -> AbstractAsyncContextManager[RawAnswer]:
        """Raises what `ChatProvider.answer` raises before the first frame, but for the vendor's own
        refusal, which is an answer here."""
        ...
