"""Metrics of processes that answer no requests otherwise: workers, beats and relays.

A thread waits in the kernel for Prometheus, so that a process that rests goes on resting.
"""

from __future__ import annotations

import os
import re
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)

SHARED_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Where the processes of one worker keep their numbers; set before the client library is loaded."""

_PATHS = frozenset({"/", "/metrics"})
_OF_LIVING = re.compile(r"gauge_live[a-z]*_(\d+)\.db\Z")
_PATIENCE_SECONDS = 5.0
_READINGS, _PAUSE_SECONDS = 3, 0.05

_PROCESSES = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Where the words of a process's `stat` stand, counted after its name (man 5 proc).
_OWN_TIMES, _TIMES_OF_THE_ENDED, _RESIDENT_PAGES = slice(11, 13), slice(13, 15), 21

Expose = Callable[[], bytes]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_whose: object) -> None:
        """Whoever asks and does not wait for the answer is no error of ours."""
        log.debug("metrics_not_taken")


def expose_metrics(host: str, port: int) -> _Server | None:
    """Answer GET /metrics until the process ends; port 0 is none. Raises OSError when the port is
    taken."""
    if port == 0:
        return None
    expose = shared_metrics if os.environ.get(SHARED_DIRECTORY) else own_metrics
    server = _Server((host, port), _page(expose))
    # A child that outlives its parent must not keep the port.
    os.register_at_fork(after_in_child=server.socket.close)
    threading.Thread(target=_answer, args=(server,), name="metrics", daemon=True).start()
    return server


def own_metrics() -> bytes:
    """What this process counted."""
    return generate_latest(REGISTRY)


def shared_metrics() -> bytes:
    """What this process and its children counted together, those that have ended included."""
    directory = Path(os.environ[SHARED_DIRECTORY])
    for _ in range(_READINGS - 1):
        # The file of a child that begins just now may still be empty.
        with suppress(struct.error):
            return _read_together(directory)
        time.sleep(_PAUSE_SECONDS)
    return _read_together(directory)


def _read_together(directory: Path) -> bytes:
    _forget_dead(directory)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]
    registry.register(_FAMILY)
    return generate_latest(registry)


class _Family(Collector):
    """What the client library tells of one process, of this one, with CPU and memory of its
    children: it is they who do a worker's work."""

    def __init__(self) -> None:
        self._parent = ProcessCollector(registry=None)
        self._most_cpu = 0.0

    def collect(self) -> Iterable[Metric]:
        for metric in self._parent.collect():
            for number, sample in enumerate(metric.samples):
                if sample.name == "process_cpu_seconds_total":
                    metric.samples[number] = sample._replace(value=self._cpu_seconds())
                elif sample.name == "process_resident_memory_bytes":
                    metric.samples[number] = sample._replace(value=_resident_bytes())
            yield metric

    def _cpu_seconds(self) -> float:
        # A child that ends between the two readings is missing once: a counter may not fall.
        self._most_cpu = max(self._most_cpu, _cpu_seconds())
        return self._most_cpu


_FAMILY = _Family()


def _cpu_seconds() -> float:
    """CPU of this process, of its children and of those that have ended."""
    ticks = 0
    for words in _stats():
        ticks += sum(map(int, words[_OWN_TIMES])) + sum(map(int, words[_TIMES_OF_THE_ENDED]))
    return ticks / _TICKS


def _resident_bytes() -> float:
    """Memory of this process and its children; pages that they share count in each."""
    return float(sum(int(words[_RESIDENT_PAGES]) for words in _stats()) * _PAGE_BYTES)


def _stats() -> Iterable[list[bytes]]:
    """This process's line of numbers, then those of its children that live."""
    for process in ("self", *_children()):
        with suppress(OSError):  # it has ended
            yield (_PROCESSES / process / "stat").read_bytes().rpartition(b")")[2].split()


def _children() -> list[str]:
    """The ids of the processes that any thread of this one has begun."""
    ids: list[str] = []
    for thread in (_PROCESSES / "self" / "task").glob("*/children"):
        with suppress(OSError):
            ids += thread.read_text().split()
    return ids


def _forget_dead(directory: Path) -> None:
    """Gauges of the living only; a child that was killed could not take its own back."""
    for file, process_id in _of_living(directory.glob("gauge_live*.db")):
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):
                file.unlink()


def _of_living(files: Iterable[Path]) -> Iterable[tuple[Path, int]]:
    for file in files:
        named = _OF_LIVING.match(file.name)
        if named:
            yield file, int(named[1])


def _answer(server: _Server) -> None:
    # Not `serve_forever`, which looks twice a second whether it is to end.
    while True:
        try:
            server.handle_request()
        except (OSError, ValueError):  # closed
            return


def _page(expose: Expose) -> type[BaseHTTPRequestHandler]:
    class Page(BaseHTTPRequestHandler):
        timeout = _PATIENCE_SECONDS

        def do_GET(self) -> None:
            if self.path.partition("?")[0] not in _PATHS:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            body = expose()
            self.send_response(HTTPStatus.OK)
            self.send_header("content-type", CONTENT_TYPE_LATEST)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """A scrape is no news."""

    return Page
