"""What a vendor's module supplies: how to ask, and how to read. It does no I/O of its own.

The same reader serves an answer that we translate and one that we only pass through, so that both
are accounted alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Protocol

from services.chat.domain.capabilities import Capabilities
from services.chat.domain.frames import Ended, Frame
from services.chat.domain.turn import Prompt
from shared.errors import ExpectedFailure
from shared.values import dataclass


class Reader(Protocol):
    """Reads one answer's body, in whatever pieces it comes."""

    def feed(self, data: bytes) -> Sequence[Frame]:
        """What the bytes complete. Raises VendorFailed for what is no answer, or the failure that
        the vendor tells in mid-stream."""
        ...

    def end(self) -> Sequence[Frame]:
        """What the end of the body completes. Raises VendorFailed when it came too early: a cut
        connection can end like a whole one."""
        ...


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A vendor's request. `path` begins behind the vendor's base URL as the egress has it."""

    path: str
    body: Mapping[str, Any]
    reader: Callable[[], Reader]
    headers: Mapping[str, str] = field(default_factory=dict)


class Wire(ABC):
    """One vendor's wire."""

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    @abstractmethod
    def request(self, prompt: Prompt, *, stream: bool) -> WireRequest:
        """The prompt in the vendor's words."""

    @abstractmethod
    def raw_reader(self, path: str, *, streamed: bool) -> Reader:
        """The reader for an answer to a client's own request at this path."""

    @abstractmethod
    def refusal(
        self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> ExpectedFailure:
        """What an answer other than 200 means: its code first. The vendor's message may echo the
        key and is never passed on."""

    def continued(self, _request: WireRequest, _ended: Ended, /) -> WireRequest | None:
        """The request for the rest of a paused answer; None when there is no more to ask."""
        return None
