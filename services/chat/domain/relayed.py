"""A client's own call in its vendor's wire, which is passed on and governed, but not translated."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Protocol

from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.raw_calls import RawCall
from services.chat.domain.turn import Surface
from shared.errors import ExpectedFailure
from shared.limit_state import LimitState
from shared.values import dataclass

# Those of the vendors' own headers that their SDKs read of an answer.
VENDOR_HEADERS = ("request-id", "openai-processing-ms", "openai-version")
# A release that knows of none in a stored answer takes them for parameters of the media type.
_BETWEEN = ";\t"


class ClientCall(Protocol):
    """What the call says of itself, and how it looks once it is governed."""

    @property
    def surface(self) -> Surface: ...
    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def streamed(self) -> bool: ...
    @property
    def max_output_tokens(self) -> int | None:
        """What the client wants at most; None when it does not say."""
        ...

    @property
    def features(self) -> Collection[str]:
        """What a tier has to include for it."""
        ...

    @property
    def input_estimate(self) -> int: ...
    @property
    def is_open(self) -> bool:
        """Whether its prompt may be longer by any length, as by a file that the vendor fetches."""
        ...

    @property
    def service_tier(self) -> str | None:
        """The tier of service that it asks for, where that has a price of its own."""
        ...

    @property
    def request_hash(self) -> bytes: ...

    def governed(self, choice: ModelChoice, *, end_user: str) -> RawCall:
        """The call as the vendor gets it: everything as the client wrote it, but for the model, the
        cap on the answer and what would be told about the user."""
        ...


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What is known of an answer when it begins."""

    media_type: str
    vendor_headers: Mapping[str, str]
    limits: Sequence[LimitState]
    tier: str


class Listener(Protocol):
    """The client on its socket. Each call returns once the socket has taken it: a slow client makes
    the vendor wait, and nothing piles up in between."""

    async def begin(self, head: AnswerHead) -> None: ...
    async def hear(self, data: bytes) -> None: ...
    async def end(self, failure: ExpectedFailure | None) -> None:
        """Nothing more comes; because of the failure, if there is one."""
        ...

    async def gone(self) -> None:
        """Returns once nobody listens any more."""
        ...


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as its first client heard it, with the vendor's headers that are told again."""

    media_type: str
    body: bytes
    vendor_headers: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """As it is kept."""
        told = [(name, self.vendor_headers.get(name, "")) for name in VENDOR_HEADERS]
        head = [self.media_type, *(f"{name}={value}" for name, value in told if value)]
        return _BETWEEN.join(head).encode() + b"\n" + self.body

    @classmethod
    def from_bytes(cls, kept: bytes) -> StoredAnswer:
        head, _, body = kept.partition(b"\n")
        media_type, *told = head.decode().split(_BETWEEN)
        return cls(media_type, body, dict(_named(header) for header in told))


def _named(header: str) -> tuple[str, str]:
    name, _, value = header.partition("=")
    return name, value


@dataclass(frozen=True, slots=True)
class RepeatedAnswer:
    """An answer that is told again, with the limits as they are now."""

    head: AnswerHead
    body: bytes
