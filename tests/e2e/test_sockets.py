"""Devices at `/chat/ws`, through the gateway."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.support.devices import SocketDevice, a_device
from tests.support.suite import Person, Suite, a_person

pytestmark = pytest.mark.e2e

SLOWLY = "[[sim:chunks=400,delay_ms=25]] on and on"


def token_of(person: Person) -> str:
    return person.client.headers["authorization"].removeprefix("Bearer ")


async def test_two_devices_talk_in_a_room(suite: Suite, ada: Person) -> None:
    async with (
        a_device(suite.url, token_of(ada)) as one,
        a_device(suite.url, token_of(ada)) as other,
    ):
        assert one.connection.subprotocol == "companion.v1"
        await other.join(ada.session_id)
        await one.say("send", session_id=ada.session_id, content="hello there")
        turn_id = (await one.until("sent"))["turn_id"]
        for device in (one, other):
            done = await device.until("done", turn_id=turn_id)
            assert done["data"]["message"]["content"] == "You said: hello there"
        assert one.turn(turn_id) == other.turn(turn_id)

        await one.say("send", session_id=ada.session_id, content=SLOWLY)
        await one.until("delta")
        await other.say("stop", session_id=ada.session_id)
        stopped = await other.until("stopped")
        assert stopped["data"]["message"]["status"] == "interrupted"

        await other.say("emit", session_id=ada.session_id, event="typing", data=True)
        emitted = await one.until("emitted", session_id=ada.session_id)
        assert emitted["data"] == {"event": "typing", "data": True}


async def test_an_answer_survives_a_closed_tab(ada: Person) -> None:
    """The client of a live answer leaves; another one takes it up where that one was."""
    path = f"/chat/sessions/{ada.session_id}"
    body = {"content": "[[sim:chunks=30,delay_ms=20]] on and on", "stream": True}
    async with ada.client.stream("POST", f"{path}/messages", json=body) as answer:
        async for line in answer.aiter_lines():
            if line == "id: 5":
                break
    rest = await ada.client.get(f"{path}/stream", headers={"last-event-id": "5"})
    ids = [int(line[4:]) for line in rest.text.splitlines() if line.startswith("id: ")]
    assert ids == list(range(6, 6 + len(ids)))
    assert "event: done" in rest.text


async def test_signing_out_closes_the_socket(suite: Suite, ada: Person) -> None:
    elsewhere = a_person(suite)
    elsewhere.name, elsewhere.password = ada.name, ada.password
    await elsewhere.sign_in()
    async with (
        a_device(suite.url, token_of(elsewhere)) as leaving,
        a_device(suite.url, token_of(ada)) as staying,
    ):
        began = time.monotonic()
        assert (await elsewhere.client.post("/auth/logout")).status_code == 204
        assert await leaving.closed() == (4401, "session_ended")
        assert time.monotonic() - began < 5
        await staying.say("ping")
        await staying.until("pong")
    await elsewhere.client.aclose()


async def test_a_tier_that_changes_is_told(suite: Suite, ada: Person) -> None:
    async with a_device(suite.url, token_of(ada)) as device:
        answer = await ada.client.put("/billing/subscription", json={"tier": "pro"})
        assert answer.status_code == 200, answer.text
        assert (await device.until("tier_changed"))["data"] == {"tier": "pro"}
        await ada.refresh()
        await device.say("auth", token=token_of(ada))
        assert (await device.until("authenticated"))["data"]["tier"] == "pro"


async def test_a_token_comes_by_header_or_in_the_first_message_but_never_in_the_url(
    suite: Suite, ada: Person
) -> None:
    wish = {"name": "a tool", "scopes": ["chat"], "expires_in_days": 1}
    personal = (await ada.client.post("/auth/tokens", json=wish)).json()["token"]
    async with a_device(suite.url, headers={"authorization": f"Bearer {personal}"}) as tool:
        await tool.say("send", session_id=ada.session_id, content="hello")
        await tool.until("done")
    async with a_device(suite.url) as late:
        await late.say("auth", token=token_of(ada))
        assert (await late.next())["event"] == "authenticated"
    async with a_device(suite.url) as page:
        await page.say("auth", token=personal)
        assert await page.closed() == (4401, "unauthenticated")
    with pytest.raises(InvalidStatus) as refused:
        async with a_device(suite.url, token_of(ada)[:-4] + "AAAA"):
            pass
    assert refused.value.response.status_code == 401

    address = suite.url.replace("http", "ws", 1)
    async with connect(f"{address}/chat/ws?access_token={token_of(ada)}", proxy=None) as socket:
        device = SocketDevice(socket)
        await device.say("join", session_id=ada.session_id)
        assert await device.closed() == (4401, "unauthenticated")
    await asyncio.sleep(1.1)  # the gateway writes its log once a second
    for process in ("gateway", "chat"):
        assert token_of(ada) not in suite.log(process), process


async def test_too_large_a_frame_is_refused(suite: Suite, ada: Person) -> None:
    async with a_device(suite.url, token_of(ada)) as device:
        await device.connection.send(json.dumps({"op": "ping", "ref": "x" * (1 << 20)}))
        assert (await device.closed())[0] == 1009
