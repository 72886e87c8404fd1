"""The sockets that are open on this replica for speech while it is written."""

from __future__ import annotations

from collections import Counter
from typing import Protocol
from uuid import UUID

from services.voice.domain.errors import TooManyVoiceSockets
from shared.close_codes import CloseCode
from shared.ids import UserId

MOST_FOR_A_USER = 20


class Listening(Protocol):
    """One open socket of one user. Nothing here waits."""

    @property
    def user_id(self) -> UserId: ...

    @property
    def sign_in_id(self) -> UUID:
        """The sign-in of its present token."""
        ...

    def close(self, code: CloseCode, reason: str) -> None: ...

    def look(self) -> None:
        """Called every second: close it if its time is over, or if it does not read."""
        ...


class Hearers:
    """Who is connected here."""

    def __init__(self) -> None:
        self._open: set[Listening] = set()
        self._of_user: Counter[UserId] = Counter()

    def open(self, listening: Listening) -> None:
        """Raises TooManyVoiceSockets."""
        if self._of_user[listening.user_id] >= MOST_FOR_A_USER:
            raise TooManyVoiceSockets(MOST_FOR_A_USER)
        self._of_user[listening.user_id] += 1
        self._open.add(listening)

    def gone(self, listening: Listening) -> None:
        """It is closed."""
        if listening not in self._open:
            return
        self._open.discard(listening)
        self._of_user[listening.user_id] -= 1
        if not self._of_user[listening.user_id]:
            del self._of_user[listening.user_id]

    def sign_ins(self) -> set[UUID]:
        """For which sign-ins a socket is open."""
        return {listening.sign_in_id for listening in self._open}

    def end_of_sign_in(self, sign_in_id: UUID) -> int:
        """Close those that were opened with it; answers how many."""
        chosen = [one for one in self._open if one.sign_in_id == sign_in_id]
        for listening in chosen:
            listening.close(CloseCode.UNAUTHENTICATED, "session_ended")
        return len(chosen)

    def look(self) -> None:
        """At each, once a second."""
        for listening in tuple(self._open):
            listening.look()

    def drain(self) -> None:
        """This replica is about to go away."""
        for listening in tuple(self._open):
            listening.close(CloseCode.RECONNECT, "reconnect")
