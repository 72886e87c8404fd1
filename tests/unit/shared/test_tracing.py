"""Tracing that is off costs nothing, and one that can't be had is refused at the start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared.events.base import current_traceparent
from shared.settings import SettingsRefused
from shared.telemetry import tracing
from tests.support.trace_collector import collecting_traces

ROOT = Path(__file__).parents[3]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OFF: list[dict[str, str]] = [
    {},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
]


@pytest.mark.parametrize("environment", OFF)
def test_it_is_off_unless_somebody_collects(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with tracing.traced("chat"):
        assert tracing.active is None


def test_off_it_loads_no_exporter() -> None:
    program = (
        "import sys\n"
        "import shared.clients.egress, shared.http.app, shared.messaging.relay\n"
        "from shared.telemetry import tracing\n"
        "with tracing.traced('chat'):\n"
        "    loaded = {'shared.telemetry.spans', 'opentelemetry.exporter'} & set(sys.modules)\n"
        "    sys.exit(len(loaded))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={}, check=False)
    assert run.returncode == 0


def test_off_a_call_still_says_what_trace_it_is_of() -> None:
    token = current_traceparent.set(TRACE)
    with tracing.calling("ask auth") as headers:
        assert headers == {"traceparent": TRACE}
    current_traceparent.reset(token)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ],
)
def test_what_we_can_not_do_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsRefused, match=f"^{name}: "), tracing.traced("chat"):
        pytest.fail("it began")


def test_an_image_without_the_extra_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "shared.telemetry.spans", None)
    with pytest.raises(SettingsRefused, match="needs the extra `tracing`"):
        tracing.check_settings()


def test_a_call_that_fails_is_marked_with_our_code_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting_traces() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with tracing.traced("chat"):
            token = current_traceparent.set(TRACE)
            with pytest.raises(ValueError), tracing.calling("ask auth") as headers:
                raise ValueError("what nobody may read")
            current_traceparent.reset(token)
        (span,) = collector.spans
    assert (span.name, span.service, span.failed) == ("ask auth", "chat", True)
    assert (span.trace_id, span.parent_id) == tuple(TRACE.split("-")[1:3])
    assert headers == {"traceparent": span.traceparent}
    assert span.attributes == {"error.type": "ValueError"}
    assert b"nobody may read" not in b"".join(collector.raw)
