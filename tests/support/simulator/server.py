"""One server for all vendors: a path prefix for each, and `/_sim/` for the tests."""

import asyncio
import signal
from typing import Final

from aiohttp import web

from tests.support.simulator.anthropic import Anthropic
from tests.support.simulator.control import Control
from tests.support.simulator.elevenlabs import ElevenLabs
from tests.support.simulator.gemini import Gemini
from tests.support.simulator.openai import OpenAI
from tests.support.simulator.options import Options
from tests.support.simulator.state import Simulator

_BACKLOG: Final = 2048
_MAX_BODY_BYTES: Final = 32 * 1024 * 1024
#: Streams that stall on purpose must not hold up the end of the process.
_SHUTDOWN_SECONDS: Final = 0.1


def create_app(defaults: Options | None = None) -> web.Application:
    simulator = Simulator(defaults or Options())
    vendors = [kind(simulator) for kind in (OpenAI, Anthropic, Gemini, ElevenLabs)]
    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.add_routes(Control(simulator, vendors).routes())
    for vendor in vendors:
        app.add_routes(vendor.routes())
    return app


async def serve(host: str, port: int, defaults: Options) -> None:
    """Answer until SIGTERM or SIGINT; says on standard output where, once it listens."""
    # Cancellation tells a handler at once that its client is gone, even while it waits.
    runner = web.AppRunner(
        create_app(defaults),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
    print(f"simulator listening on http://{host}:{runner.addresses[0][1]}", flush=True)
    await _told_to_stop()
    await runner.cleanup()


async def _told_to_stop() -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()
