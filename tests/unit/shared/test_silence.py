"""A peer that is gone without a word is noticed by the kernel, on both kinds of event loop."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable

import pytest
import uvloop

from shared.clients.silence import SILENCE_SECONDS, notice_silence


async def _options_of_a_watched_connection() -> dict[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, *server.getsockname()
        )
        notice_silence(transport)
        own = transport.get_extra_info("socket")
        tcp = {
            name: own.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        }
        tcp["SO_KEEPALIVE"] = own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        transport.close()
        await asyncio.sleep(0)  # the loop closes it in its next round
        return tcp


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name these otherwise")
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_watched_connection_breaks_within_the_stated_time(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        options = runner.run(_options_of_a_watched_connection())
    assert options["SO_KEEPALIVE"]
    probes = options["TCP_KEEPINTVL"] * options["TCP_KEEPCNT"]
    assert options["TCP_KEEPIDLE"] + probes == SILENCE_SECONDS
    assert options["TCP_USER_TIMEOUT"] == SILENCE_SECONDS * 1000
