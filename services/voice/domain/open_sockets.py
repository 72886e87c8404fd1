"""The sockets that are open on this replica for speech while it is written."""

from __future__ import annotations

from collections import Counter
from typing import Protocol
from uuid import UUID

from services.voice.domain.errors import TooManyVoiceSockets
from shared.close_codes import CloseCode
from shared.ids import UserId

MOST_FOR_A_USER = 20


class OpenSocket(Protocol):
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


class OpenSockets:
    """Who is connected here."""

    def __init__(self) -> None:
        self._open: set[OpenSocket] = set()
        self._of_user: Counter[UserId] = Counter()

    def open(self, socket: OpenSocket) -> None:
        """Raises TooManyVoiceSockets."""
        if self._of_user[socket.user_id] >= MOST_FOR_A_USER:
            raise TooManyVoiceSockets(MOST_FOR_A_USER)
        self._of_user[socket.user_id] += 1
        self._open.add(socket)

    def gone(self, socket: OpenSocket) -> None:
        """It is closed."""
        if socket not in self._open:
            return
        self._open.discard(socket)
        self._of_user[socket.user_id] -= 1
        if not self._of_user[socket.user_id]:
            del self._of_user[socket.user_id]

    def sign_ins(self) -> set[UUID]:
        """For which sign-ins a socket is open."""
        return {socket.sign_in_id for socket in self._open}

    def end_of_sign_in(self, sign_in_id: UUID) -> int:
        """Close those that were opened with it; answers how many."""
        chosen = [one for one in self._open if one.sign_in_id == sign_in_id]
        for socket in chosen:
            socket.close(CloseCode.UNAUTHENTICATED, "session_ended")
        return len(chosen)

    def look(self) -> None:
        """At each, once a second."""
        for socket in tuple(self._open):
            socket.look()

    def drain(self) -> None:
        """This replica is about to go away."""
        for socket in tuple(self._open):
            socket.close(CloseCode.RECONNECT, "reconnect")
