"""For a hot route that may pass a request on: what was read of it is told again."""

from __future__ import annotations

from shared.http.door import Message, Receive


async def read_whole(receive: Receive) -> tuple[list[Message], bytes | None]:
    """What came, and the whole body; None when its sender went away."""
    messages = [await receive()]
    while messages[-1]["type"] == "http.request" and messages[-1].get("more_body"):
        messages.append(await receive())
    if messages[-1]["type"] != "http.request":
        return messages, None
    if len(messages) == 1:
        return messages, messages[0].get("body", b"")
    return messages, b"".join([message.get("body", b"") for message in messages])


def told_again(messages: list[Message], receive: Receive) -> Receive:
    """What was read already, and then what comes."""
    left = iter(messages)

    async def replayed() -> Message:
        message = next(left, None)
        return await receive() if message is None else message

    return replayed
