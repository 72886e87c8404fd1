"""`WS /chat/ws`: one socket for each device.

A device shows its token before the socket opens (`Authorization`, or the subprotocol
`bearer.<token>`, which is all that a browser's page can send) or in its first message; never in the
URL. Then it says words (`socket_words`) and hears the events of the sessions that it has joined.
"""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from services.chat.actions import Actions
from services.chat.api.device import Device
from services.chat.api.socket_words import LARGEST_FRAME_BYTES, read_word
from shared.http.caller import Caller
from shared.http.let_in import let_in
from shared.http.socket_door import SocketDoor

router = APIRouter()


@router.websocket("/chat/ws")
async def talk(socket: WebSocket) -> None:
    """Let the device in, then serve it until one side closes."""
    actions: Actions = socket.app.state.actions

    def opened(door: SocketDoor, caller: Caller) -> Device:
        """Raises TooManySockets."""
        device = Device(socket, actions, caller, door=door)
        actions.devices.open(device)
        return device

    await let_in(
        socket,
        opened=opened,
        gone=actions.devices.gone,
        read_word=read_word,
        largest_word=LARGEST_FRAME_BYTES,
    )
