"""The sockets that are open on this replica, and the rooms that they are in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Protocol
from uuid import UUID

from services.chat.domain.conversation import SessionId
from services.chat.domain.errors import TooManySockets
from services.chat.domain.live import LiveTurn
from services.chat.domain.ports import LiveChannel
from shared.close_codes import CloseCode
from shared.ids import UserId

MOST_FOR_A_USER = 50


class Device(Protocol):
    """One open socket of one user, or a stream by which they follow. Nothing here waits: a socket
    takes what it is told and writes it when it can."""

    @property
    def user_id(self) -> UserId: ...
    @property
    def sign_in_id(self) -> UUID:
        """The sign-in of its present token."""
        ...

    def tell(self, event: str, data: Any) -> None: ...
    def begun(self, turn: LiveTurn) -> None:
        """A turn has begun in a room that it is in."""
        ...

    def emitted(self, session_id: SessionId, message: bytes) -> None:
        """Another device told the room something."""
        ...

    def close(self, code: CloseCode, reason: str) -> None: ...
    def look(self) -> None:
        """Called every second: close it if its time is over, or if it does not read."""
        ...


class Hearer(Protocol):
    """The stream of an answer that was asked for here, while it is open."""

    @property
    def user_id(self) -> UserId: ...
    def tell(self, event: str, data: Any) -> None: ...


class Devices:
    """Who is connected here. A room is a chat session; all in it are devices of its one user."""

    def __init__(self, channel: LiveChannel) -> None:
        self._channel = channel
        self._devices: set[Device] = set()
        self._hearers: set[Hearer] = set()
        self._of_user: Counter[UserId] = Counter()
        self._rooms: dict[SessionId, set[Device]] = {}

    def open(self, device: Device) -> None:
        """Raises TooManySockets."""
        if self._of_user[device.user_id] >= MOST_FOR_A_USER:
            raise TooManySockets(MOST_FOR_A_USER)
        self._of_user[device.user_id] += 1
        self._devices.add(device)

    async def gone(self, device: Device) -> None:
        """It is closed; it leaves its rooms."""
        if device not in self._devices:
            return
        self._devices.discard(device)
        self._of_user[device.user_id] -= 1
        if not self._of_user[device.user_id]:
            del self._of_user[device.user_id]
        for session_id in [id_ for id_, room in self._rooms.items() if device in room]:
            await self.leave(device, session_id)

    async def join(self, device: Device, session_id: SessionId) -> None:
        """Enter the room of a session that is the user's own."""
        self._rooms.setdefault(session_id, set()).add(device)
        await self._channel.enter(session_id)

    async def leave(self, device: Device, session_id: SessionId) -> None:
        room = self._rooms.get(session_id, set())
        room.discard(device)
        if not room and self._rooms.pop(session_id, None) is not None:
            await self._channel.leave(session_id)

    def are_in(self, session_id: SessionId) -> Sequence[Device]:
        """The devices in a room."""
        return tuple(self._rooms.get(session_id, ()))

    def rooms(self) -> Collection[SessionId]:
        """Those with somebody in them."""
        return tuple(self._rooms)

    def turn_began(self, turn: LiveTurn) -> None:
        """Tell the room of its session."""
        if turn.session_id is not None:
            for device in self.are_in(turn.session_id):
                device.begun(turn)

    def sign_ins(self) -> set[UUID]:
        """For which sign-ins a socket is open."""
        return {device.sign_in_id for device in self._devices}

    def end_of_sign_in(self, sign_in_id: UUID) -> int:
        """Close those that were opened with it; answers how many."""
        chosen = [device for device in self._devices if device.sign_in_id == sign_in_id]
        for device in chosen:
            device.close(CloseCode.UNAUTHENTICATED, "session_ended")
        return len(chosen)

    def tier_changed(self, user_id: UserId, tier: str) -> None:
        """Tell the user's devices: their next token says so, too."""
        for hearer in (*self._devices, *self._hearers):
            if hearer.user_id == user_id:
                hearer.tell("tier_changed", {"tier": tier})

    def heard_by(self, hearer: Hearer) -> None:
        """Tell it too what a device is told, until `unheard_by`. It counts as no device."""
        self._hearers.add(hearer)

    def unheard_by(self, hearer: Hearer) -> None:
        """It is closed."""
        self._hearers.discard(hearer)

    def look(self) -> None:
        """At each, once a second."""
        for device in tuple(self._devices):
            device.look()

    def drain(self) -> None:
        """This replica is about to go away."""
        for device in tuple(self._devices):
            device.close(CloseCode.RECONNECT, "reconnect")
