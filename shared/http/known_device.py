"""A device that has come in at a WebSocket: whose it is, how long its token is good, and whether
what it says are words. What it hears, and what its words do, is its service's affair."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar
from uuid import UUID

from shared.close_codes import CloseCode
from shared.errors import ExpectedFailure, Invalid
from shared.events.base import current_request_id
from shared.http.caller import Caller
from shared.http.socket_words import OtherUser, Pace, Ref, TooFast, told_moment
from shared.ids import UserId, uuid7

_EXPIRES_SOON_SECONDS = 60
_FAULTS_IN_A_ROW = 10

W = TypeVar("W")


class TokenDoor(Protocol):
    """Checks a token."""

    async def caller(self, token: str) -> Caller: ...


class KnownDevice(ABC):
    """Its user stays; its token is replaced by newer ones."""

    def __init__(self, caller: Caller, door: TokenDoor, pace: Pace) -> None:
        self._caller = caller
        self._door = door
        self._pace = pace
        self._faults = 0
        self._told_of_expiry = False

    @property
    def user_id(self) -> UserId:
        return self._caller.identity.user_id

    @property
    def sign_in_id(self) -> UUID:
        return self._caller.identity.sign_in_id

    @abstractmethod
    def close(self, code: CloseCode, reason: str) -> None:
        """End the socket from here."""

    @abstractmethod
    def _complain(self, failure: ExpectedFailure, ref: Ref) -> None:
        """Tell the device what is wrong with what it said."""

    async def _show_again(self, token: str) -> None:
        """Take a newer token. Raises OtherUser, and what the door raises."""
        caller = await self._door.caller(token)
        if caller.identity.user_id != self.user_id:
            raise OtherUser
        self._caller = caller
        self._told_of_expiry = False

    def _who(self) -> dict[str, Any]:
        """What `authenticated` tells."""
        identity = self._caller.identity
        return {
            "user_id": str(identity.user_id),
            "tier": identity.tier,
            "expires_at": told_moment(identity.expires_at),
        }

    def _left_of_token(self) -> float:
        """How many seconds it is still good for."""
        return self._caller.identity.expires_at - time.time()

    def _expiry_to_tell(self) -> dict[str, Any] | None:
        """What `token_expiring` tells, in the last minute of a token, once; None at any other
        time."""
        if self._told_of_expiry or self._left_of_token() > _EXPIRES_SOON_SECONDS:
            return None
        self._told_of_expiry = True
        return {"expires_at": told_moment(self._caller.identity.expires_at)}

    def _word_in(
        self,
        message: Mapping[str, Any],
        read_word: Callable[[str], tuple[W | None, Ref, Invalid | None]],
        *,
        largest: int,
    ) -> tuple[W, Ref] | None:
        """The word that a message holds, and its `ref`. None where it holds none, or one too many:
        then the device has been told so, or is sent away."""
        if length_of(message) > largest:
            self.close(CloseCode.TOO_BIG, "too_large")
            return None
        current_request_id.set(str(uuid7()))
        word, ref, wrong = read_word(message.get("text") or "")
        if not self._pace.allows_one():
            self._refuse(TooFast(), ref)
        elif word is None:
            assert wrong is not None
            self._refuse(wrong, ref)
        else:
            self._faults = 0
            return word, ref
        return None

    def _refuse(self, failure: ExpectedFailure, ref: Ref) -> None:
        """A message that was none; ten in a row are no device of ours."""
        self._complain(failure, ref)
        self._faults += 1
        if self._faults >= _FAULTS_IN_A_ROW:
            self.close(CloseCode.POLICY, "not_understood")


def length_of(message: Mapping[str, Any]) -> int:
    """Of what a device says: letters of a text, bytes of what is none."""
    return len(message.get("text") or message.get("bytes") or b"")
