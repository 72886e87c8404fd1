"""`WS /voice/realtime`: text in, audio out, utterance by utterance."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from services.voice.actions import Actions
from services.voice.api.realtime_socket import RealtimeSocket
from services.voice.api.realtime_words import LARGEST_MESSAGE, read_word
from shared.http.caller import Caller
from shared.http.let_in import let_in
from shared.http.socket_door import SocketDoor

router = APIRouter()


@router.websocket("/voice/realtime")
async def talk(socket: WebSocket) -> None:
    """Let the device in, then serve it until one side closes."""
    actions: Actions = socket.app.state.actions

    def opened(door: SocketDoor, caller: Caller) -> RealtimeSocket:
        """Raises TooManyVoiceSockets."""
        device = RealtimeSocket(socket, actions, caller, door=door)
        actions.open_sockets.open(device)
        return device

    async def gone(device: RealtimeSocket) -> None:
        actions.open_sockets.gone(device)

    await let_in(
        socket, opened=opened, gone=gone, read_word=read_word, largest_word=LARGEST_MESSAGE
    )
