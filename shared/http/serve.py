"""Run a service's web process: `python -m shared.http.serve services.chat.app --port 8001`.

Two listeners in one process and one event loop: the public one, and the internal one for health,
metrics and what other services may ask. The gateway knows the public port only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import signal
import sys

import structlog
import uvicorn
import uvloop

from shared.background import running_beside
from shared.http.app import WebProcess

log = structlog.get_logger("serve")

# Services take less, and can say so to whoever sends a little more; beyond this the connection
# breaks under the sender.
LARGEST_FRAME_BYTES = 2 << 20

_COLLECT_SECONDS = 60.0


class _Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to us: two listeners share one process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield

    def leave(self) -> None:
        """Drain and end."""
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        # uvicorn looks ten times a second whether to exit, which is most of what a process costs
        # that nobody asks anything. Its other duties there we have turned off: the date header, a
        # limit of requests, a callback.
        await self.on_tick(0)
        await self._leaving.wait()


def _listener(app: object, host: str, port: int, drain_seconds: int) -> _Listener:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        # What a device hears is compressed by nobody: for each piece of an answer it costs more
        # time than it saves.
        ws_max_size=LARGEST_FRAME_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        # Longer than the proxies keep idle connections, so that they close first.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=drain_seconds,
        backlog=2048,
    )
    return _Listener(config)


async def serve(process: WebProcess, *, host: str, port: int, internal_port: int) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    listeners = (
        _listener(process.public, host, port, drain_seconds=20),
        _listener(process.internal, host, internal_port, drain_seconds=2),
    )

    def stop() -> None:
        process.stopping()
        for listener in listeners:
            listener.leave()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with process.lifespan():
        _settle_memory()
        async with running_beside(_collect_now_and_then()):
            await asyncio.gather(*(listener.serve() for listener in listeners))


def _settle_memory() -> None:
    # What exists now lives as long as the process: the collector need not look at it again, and
    # short-lived request objects seldom need it at all.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 1_000)


async def _collect_now_and_then() -> None:
    # With these thresholds the collector hardly ever looks at what has lived for a while, and
    # circles among it (a failure and the frames that it came through) would stay for ever. By the
    # clock, the little that was not frozen takes some milliseconds.
    while True:
        await asyncio.sleep(_COLLECT_SECONDS)
        gc.collect()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m shared.http.serve")
    parser.add_argument("module", help="the service's app module, such as services.chat.app")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--internal-port", type=int, required=True)
    arguments = parser.parse_args()
    process: WebProcess = importlib.import_module(arguments.module).create_app()
    try:
        uvloop.run(
            serve(
                process,
                host=arguments.host,
                port=arguments.port,
                internal_port=arguments.internal_port,
            )
        )
    except OSError as error:
        log.error("cannot_serve", port=arguments.port, reason=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
