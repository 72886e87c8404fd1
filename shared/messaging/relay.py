"""From the outboxes to the broker: `python -m shared.messaging.relay chat voice …`.

A process of its own: no request handler ever publishes, so a broker that is slow or gone delays
events and nothing else.
"""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydantic import Field
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.db import outbox
from shared.db.engine import sync_engine
from shared.events import CATALOGUE
from shared.messaging import batch as batches
from shared.messaging.publisher import NotSent, Publisher, Refused, Unroutable
from shared.messaging.relay_bell import RelayBell
from shared.messaging.stuck_streams import StuckStreams
from shared.settings import (
    BrokerUrl,
    DatabaseUrl,
    EnvironmentSettings,
    LogLevel,
    port_of,
    report_unknown_settings,
    service_database_url,
    stop_with_sentence,
)
from shared.telemetry import tracing
from shared.telemetry.exposition import expose_metrics
from shared.telemetry.logging import configure_logging
from shared.telemetry.metrics import (
    DEAD_EVENTS,
    EVENTS_SENT,
    OUTBOX_OLDEST_SECONDS,
    OUTBOX_WAITING,
    OUTBOX_WRITTEN,
    RELAY_BATCH_SECONDS,
    RELAY_FAILURES,
)

if TYPE_CHECKING:
    from shared.telemetry.spans import Tracing

log = structlog.get_logger(__name__)

BATCH_SIZE = 500
LEASE = timedelta(seconds=30)
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 0.25
# A process rings at most once a second: what it writes within that second must find us awake.
_AWAKE_SECONDS = 1.5
# How long an event waits of which no ring was heard.
_PAUSE_AT_REST = 5.0
_PAUSE_IN_TROUBLE = 1.0
_GAUGE_SECONDS = 5.0
_COUNT_DEAD_SECONDS = 60.0


class RelaySettings(EnvironmentSettings):
    """What a relay is told of its deployment."""

    database_url: DatabaseUrl = Field(validation_alias="DATABASE_URL")
    broker_url: BrokerUrl = Field(validation_alias="BROKER_URL")
    log_level: LogLevel = Field("info", validation_alias="LOG_LEVEL")
    ready_file: Path | None = Field(None, validation_alias="READY_FILE")
    metrics_host: str = Field("127.0.0.1", validation_alias="METRICS_HOST")
    metrics_port: int = Field(0, validation_alias="METRICS_PORT", ge=0, le=65535)


class Relay:
    """Empties one service's outbox."""

    def __init__(self, service: str, engine: Engine, publisher: Publisher) -> None:
        self._service = service
        self._engine = engine
        self._publisher = publisher
        self._gauged_at = self._dead_counted_at = float("-inf")
        self._gauged: set[str] = set()
        self._batch_seconds = RELAY_BATCH_SECONDS.labels(service)
        self._waits = Waits()
        self._stuck = StuckStreams()

    def run_once(self) -> int:
        """Send a batch of every stream that has something; answers how many events were sent.

        A stream that the broker does not take keeps its events and holds up no other. Raises
        NotSent when the broker is in trouble, SQLAlchemyError when the database is.
        """
        return self._send(list(self._stuck.others_of(self._waiting())))

    def run_due(self) -> int:
        """The same for the streams that may not wait any longer for more of their kind."""
        return self._send(self._waits.over(self._stuck.others_of(self._waiting())))

    @property
    def due_in(self) -> float:
        """Seconds until the next stream may not wait any longer, or is to be tried again."""
        return min(self._waits.next_over_in, self._stuck.next_in)

    @property
    def is_broker_away(self) -> bool:
        """Whether something waits and, as far as can be told, the broker takes nothing."""
        return self._stuck.is_broker_away

    def _waiting(self) -> Mapping[str, int]:
        # First, so that the numbers to alarm on are fresh just when nothing can be sent.
        if self._gauge_is_due and not self._gauge():
            return {}
        return outbox.waiting_streams(self._engine, most=BATCH_SIZE)

    def _send(self, streams: Sequence[str]) -> int:
        sent = 0
        for stream in chain(streams, self._stuck.due()):
            try:
                sent += self._send_stream(stream)
            except Refused as refusal:
                self._tell_refused(stream, refusal)
            except NotSent as error:
                if not self._stuck.note_not_confirmed(stream):
                    # The loop tells of it, once per outage.
                    raise
                log.warning("stream_not_confirmed", stream=stream, reason=str(error))
                RELAY_FAILURES.labels(self._service, "not_confirmed").inc()
                # This may have taken seconds: first the others again.
                break
        return sent

    def _send_stream(self, stream: str) -> int:
        began = time.monotonic()
        claimed = outbox.claim(self._engine, stream, most=BATCH_SIZE, lease=LEASE)
        if claimed is None:
            return 0
        try:
            if tracing.active is None:
                self._publish(claimed)
            else:
                self._publish_traced(tracing.active, claimed)
        except NotSent:
            # At once, and all of the stream is left alone meanwhile: under a lease, what comes
            # later in it would go first.
            outbox.release(self._engine, claimed)
            raise
        self._stuck.note_gone(stream)
        outbox.mark_sent(self._engine, claimed)
        EVENTS_SENT.labels(self._service, stream).inc(len(claimed.events))
        self._batch_seconds.observe(time.monotonic() - began)
        return len(claimed.events)

    def _tell_refused(self, stream: str, refusal: Refused) -> None:
        has_queue = not isinstance(refusal, Unroutable)
        self._stuck.note_refused(stream, has_queue=has_queue)
        log.warning("stream_refused" if has_queue else "no_queue_for_stream", stream=stream)
        RELAY_FAILURES.labels(self._service, "refused" if has_queue else "no_queue").inc()

    def _publish_traced(self, traced: Tracing, claimed: outbox.Batch) -> None:
        traces = [event.envelope.get("traceparent") for event in claimed.events]
        about: tracing.Attributes = {
            "messaging.destination.name": claimed.stream,
            "messaging.batch.message_count": len(claimed.events),
        }
        span = traced.begin_batch(f"send {claimed.stream}", tracing.Kind.PRODUCER, traces, about)
        failed: str | None = "not_sent"
        try:
            self._publish(claimed)
            failed = None
        finally:
            span.end(failed=failed)

    def _publish(self, claimed: outbox.Batch) -> None:
        envelopes = [
            {**event.envelope, "producerepoch": str(claimed.epoch), "producerseq": event.sequence}
            for event in claimed.events
        ]
        type_ = _type_of(claimed.stream)
        wire = batches.to_wire(self._service, claimed.epoch, envelopes)
        event_class = CATALOGUE.get(type_)
        routed = event_class is None or event_class.needs_listener
        self._publisher.send(claimed.stream, type_, wire, routed=routed)

    @property
    def _gauge_is_due(self) -> bool:
        return time.monotonic() - self._gauged_at >= _GAUGE_SECONDS

    def _gauge(self) -> bool:
        """Show what waits; answers whether anything does."""
        self._gauged_at = time.monotonic()
        backlog = outbox.backlog(self._engine)
        # Other relays of this process have numbers of their own: only ours are reset.
        for stream in self._gauged - {row.stream for row in backlog}:
            self._show(stream, 0, 0)
        for row in backlog:
            self._show(row.stream, row.waiting, row.oldest_seconds)
            OUTBOX_WRITTEN.labels(self._service, row.stream).set(row.written)
        self._count_dead()
        return any(row.waiting for row in backlog)

    def _show(self, stream: str, waiting: int, oldest_seconds: float) -> None:
        self._gauged.add(stream)
        OUTBOX_WAITING.labels(self._service, stream).set(waiting)
        OUTBOX_OLDEST_SECONDS.labels(self._service, stream).set(oldest_seconds)

    def _count_dead(self) -> None:
        # They come one by one and stay until somebody looks at them: counting can wait.
        if time.monotonic() - self._dead_counted_at < _COUNT_DEAD_SECONDS:
            return
        self._dead_counted_at = time.monotonic()
        DEAD_EVENTS.labels(self._service).set(outbox.dead_events(self._engine))


class Waits:
    """Since when the streams of one outbox wait for company; by our own clock, since a producer's
    may be wrong."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def over(self, waiting: Mapping[str, int]) -> list[str]:
        """Those that have waited long enough, or for enough."""
        now = time.monotonic()
        self._since = {stream: self._since.get(stream, now) for stream in waiting}
        over = [
            stream
            for stream, count in waiting.items()
            if count >= BATCH_SIZE or now >= self._since[stream] + _may_wait(stream)
        ]
        for stream in over:
            del self._since[stream]
        return over

    @property
    def next_over_in(self) -> float:
        ends = [since + _may_wait(stream) for stream, since in self._since.items()]
        return max(0.0, min(ends) - time.monotonic()) if ends else float("inf")


def _type_of(stream: str) -> str:
    return stream.rpartition(".")[0]


def _may_wait(stream: str) -> float:
    event_class = CATALOGUE.get(_type_of(stream))
    return event_class.may_wait.total_seconds() if event_class else 0.0


class Pauses:
    """How long to pause: shortly at first, longer while nothing comes, and then until it rings."""

    def __init__(self) -> None:
        self.stir()

    def stir(self) -> None:
        """Something has come, or is about to."""
        self._pause = _SHORTEST_PAUSE
        self._awake_until = time.monotonic() + _AWAKE_SECONDS

    def next(self) -> float:
        if time.monotonic() >= self._awake_until:
            return _PAUSE_AT_REST
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE)
        return pause


def keep_running(
    relay: Relay,
    bell: RelayBell,
    stop: threading.Event,
    service: str,
    ready_file: Path | None = None,
) -> None:
    """Relay until told to stop: at the ring of the bell, and with pauses while nothing comes.

    The file is renewed as long as the outbox is emptied: by each turn that met no trouble, but not
    while the broker takes nothing of what waits.
    """
    pauses, outage = Pauses(), _Outage(service)
    while not stop.is_set():
        try:
            sent = relay.run_due()
            if not relay.is_broker_away:
                _renew(ready_file)
        except (NotSent, SQLAlchemyError) as error:
            RELAY_FAILURES.labels(service, _side_of(error)).inc()
            outage.goes_on(error)
            stop.wait(_PAUSE_IN_TROUBLE)
            continue
        except Exception:
            # A bug, but this thread is all that this outbox has.
            RELAY_FAILURES.labels(service, "bug").inc()
            log.exception("relay_failed", outbox=service)
            stop.wait(_PAUSE_IN_TROUBLE)
            continue
        outage.is_over(sent)
        if sent:
            pauses.stir()
        if sent < BATCH_SIZE and bell.rang_within(min(pauses.next(), relay.due_in)):
            pauses.stir()


class _Outage:
    """Told of when it begins, when it changes sides, and when it is over; not each second."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._side: str | None = None

    def goes_on(self, error: Exception) -> None:
        side = _side_of(error)
        if side != self._side:
            reason = str(error) if isinstance(error, NotSent) else type(error).__name__
            log.warning("relay_waits", outbox=self._service, waits_for=side, reason=reason)
            self._side = side

    def is_over(self, sent: int) -> None:
        # With nothing to send nobody has asked the broker.
        if self._side == "database" or (self._side == "broker" and sent):
            log.info("relay_goes_on", outbox=self._service)
            self._side = None


def _side_of(error: Exception) -> str:
    return "broker" if isinstance(error, NotSent) else "database"


def run(
    services: Sequence[str], database_url: str, broker_url: str, ready_file: Path | None = None
) -> None:
    """One thread per service's outbox, each with its own connections, until SIGTERM."""
    stop = threading.Event()
    bells = {name: RelayBell(service_database_url(database_url, name)) for name in services}

    def end(*_signal: object) -> None:
        stop.set()
        for bell in bells.values():
            bell.end()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    threads = []
    for service, bell in bells.items():
        # It asks some times a second: a connection that has died is a warning and another try.
        url = service_database_url(database_url, service)
        engine = sync_engine(url, ask_first=False, single_statements=True)
        relay = Relay(service, engine, Publisher(broker_url))
        thread = threading.Thread(
            target=keep_running,
            args=(relay, bell, stop, service, ready_file),
            name=f"relay-{service}",
        )
        thread.start()
        threads.append(thread)
    log.info("relay_started", services=list(services))
    for thread in threads:
        thread.join()


def _renew(ready_file: Path | None) -> None:
    if ready_file is not None:
        ready_file.touch()


def _process_name(services: Sequence[str]) -> str:
    return f"{services[0]}-relay" if len(services) == 1 else "relay"


def main() -> None:
    """Parse the command line and relay."""
    parser = argparse.ArgumentParser(prog="python -m shared.messaging.relay")
    parser.add_argument("services", nargs="+")
    arguments = parser.parse_args()
    with stop_with_sentence():
        settings = RelaySettings.from_environment()
    configure_logging("relay", settings.log_level)
    report_unknown_settings()
    host, port = settings.metrics_host, settings.metrics_port
    with stop_with_sentence(), port_of("METRICS_PORT", host, port):
        expose_metrics(host, port)
    database_url = settings.database_url.get_secret_value()
    broker_url = settings.broker_url.get_secret_value()
    with stop_with_sentence(), tracing.traced(_process_name(arguments.services)):
        run(arguments.services, database_url, broker_url, settings.ready_file)


if __name__ == "__main__":
    main()
