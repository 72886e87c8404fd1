"""Spans as OpenTelemetry makes them. Imported by `tracing` alone, and only where it is on."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as OpenTelemetrySpan
from opentelemetry.util.re import parse_env_headers

from shared.telemetry.tracing import Attributes, Kind

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\Z")
# A collector that is away must not keep a process from ending.
_FLUSH_SECONDS = 3.0
# OpenTelemetry's own limit; a message carries more events than that.
_MOST_LINKS = 128


_FAILED = Status(StatusCode.ERROR)
_NOWHERE = Context()
_KINDS = {Kind(kind.value): kind for kind in SpanKind if kind is not SpanKind.INTERNAL}


class Span:
    """Something that has begun and will end. `traceparent` is what goes along to whoever does a
    part of it."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: OpenTelemetrySpan) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
        )

    def end(
        self,
        *,
        name: str | None = None,
        attributes: Attributes | None = None,
        failed: str | None = None,
    ) -> None:
        """It is over. `failed`: a code for what went wrong, of ours and not of what was sent."""
        span = self._span
        if span.is_recording():
            if name is not None:
                span.update_name(name)
            for key, value in (attributes or {}).items():
                span.set_attribute(key, value)
            if failed is not None:
                span.set_attribute("error.type", failed)
                span.set_status(_FAILED)
        span.end()


class Tracing:
    """Makes spans and hands them to whoever collects them."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("companion")

    @classmethod
    def of_process(cls, service: str, *, headers: str | None) -> Tracing:
        """With the exporter that OpenTelemetry's variables describe."""
        about = {
            "service.namespace": "companion",
            "service.name": service,
            "companion.pool": os.environ.get("COMPANION_POOL") or "all",
        }
        given = parse_env_headers(headers, liberal=True) if headers else None
        provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(headers=given)))
        return cls(provider)

    def begin(
        self,
        name: str,
        kind: Kind,
        *,
        within: str | None = None,
        attributes: Attributes | None = None,
        links: Sequence[str] = (),
    ) -> Span:
        """A span within the one that `within` names as a traceparent; without, one of its own
        trace, as far as the sampler wants it. `links`: the others that it is about as well."""
        contexts = (_context_of(link) for link in links[:_MOST_LINKS])
        span = self._tracer.start_span(
            name,
            context=_within(within),
            kind=_KINDS[kind],
            attributes=attributes,
            links=[Link(context) for context in contexts if context is not None],
        )
        return Span(span)

    def begin_batch(
        self, name: str, kind: Kind, traces: Sequence[object], attributes: Attributes
    ) -> Span:
        """A span for events that came of several requests: within the first one's trace, with links
        to the others."""
        known = list(dict.fromkeys(trace for trace in traces if isinstance(trace, str)))
        first = known[0] if known else None
        return self.begin(name, kind, within=first, attributes=attributes, links=known[1:])

    def close(self) -> None:
        """Hand over what is left, for a moment at most."""
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(_FLUSH_SECONDS)


def _within(traceparent: str | None) -> Context:
    context = _context_of(traceparent)
    return _NOWHERE if context is None else set_span_in_context(NonRecordingSpan(context), _NOWHERE)


def _context_of(traceparent: str | None) -> SpanContext | None:
    parts = _TRACEPARENT.match(traceparent) if traceparent else None
    if parts is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in parts.groups())
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return context if context.is_valid else None
