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
import socket

import uvicorn
import uvloop

from shared.background import running_beside
from shared.http.app import WebProcess
from shared.http.denials import WithDenials
from shared.http.whole_answers import WholeAnswers
from shared.large_pages import gather_pages
from shared.settings import port_of, stop_with_sentence

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

    def turn_away(self) -> None:
        """Take no new connection, and let each one that is open end with its next answer.

        Whoever holds connections then goes elsewhere without having met one that was cut.
        """
        # Before it has started it has none, and nobody is connected.
        for server in getattr(self, "servers", ()):
            server.close()
        state = self.server_state
        state.default_headers = [*state.default_headers, (b"connection", b"close")]

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
        http=WholeAnswers,
        ws=WithDenials,
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


async def serve(
    process: WebProcess, *, host: str, port: int, internal_port: int, turn_away_seconds: float = 0
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second one cuts short for how long connections
    are turned away first. Raises SettingsRefused for a port that can't be had."""
    places = ((host, port, "--port"), (host, internal_port, "--internal-port"))
    sockets = [_taken(*place) for place in places]
    listeners = (
        _listener(process.public, host, port, drain_seconds=20),
        _listener(process.internal, host, internal_port, drain_seconds=2),
    )

    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def leave() -> None:
        if listeners[0].should_exit:
            return
        process.stopping()
        for listener in listeners:
            listener.leave()

    def stop() -> None:
        if asked.is_set() or not turn_away_seconds:
            leave()
            return
        asked.set()
        # First: whatever else may fail, it ends.
        loop.call_later(turn_away_seconds, leave)
        listeners[0].turn_away()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with process.lifespan():
        _settle_memory()
        async with running_beside(_collect_now_and_then()):
            await asyncio.gather(
                *(
                    listener.serve(sockets=[place])
                    for listener, place in zip(listeners, sockets, strict=True)
                )
            )


def _taken(host: str, port: int, option: str) -> socket.socket:
    """The port, before anything is opened: one that is somebody's ends the start at once. It lets
    nobody in before there is a listener."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    place = socket.socket(family)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        with port_of(option, host, port):
            place.bind((host, port))
    except BaseException:
        place.close()
        raise
    place.setblocking(False)
    return place


def _settle_memory() -> None:
    # What exists now lives as long as the process: the collector need not look at it again, and
    # short-lived request objects seldom need it at all.
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 1_000)
    gather_pages()


async def _collect_now_and_then() -> None:
    # With these thresholds the collector hardly ever looks at what has lived for a while, and
    # circles among it (a failure and the frames that it came through) would stay for ever. By the
    # clock, the little that was not frozen takes some milliseconds.
    while True:
        await asyncio.sleep(_COLLECT_SECONDS)
        gc.collect()


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return port


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m shared.http.serve")
    parser.add_argument("module", help="the service's app module, such as services.chat.app")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, required=True)
    parser.add_argument("--internal-port", type=_port, required=True)
    parser.add_argument(
        "--turn-away-seconds",
        type=float,
        default=0,
        help="how long connections are turned away before the rest is drained; for one of several",
    )
    arguments = parser.parse_args()
    # Until `_settle_memory`: what is imported stays, and to look through it again and again is a
    # tenth of the time that this takes.
    gc.disable()
    with stop_with_sentence():
        process: WebProcess = importlib.import_module(arguments.module).create_app()
        uvloop.run(
            serve(
                process,
                host=arguments.host,
                port=arguments.port,
                internal_port=arguments.internal_port,
                turn_away_seconds=arguments.turn_away_seconds,
            )
        )


if __name__ == "__main__":
    main()
