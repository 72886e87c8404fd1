"""Spans of what is done here, for an OpenTelemetry collector of the operator's; off unless one is
named.

Off, a place where a span might begin costs one comparison with None, and no exporter is loaded; of
OpenTelemetry FastAPI brings along the interfaces alone. Spans hold names, ids, counts and statuses:
no text of anybody's, no path, no address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import structlog
from pydantic import Field, SecretStr

from shared.events.base import current_traceparent
from shared.settings import EnvironmentSettings, HttpUrl, SettingsRefused

if TYPE_CHECKING:
    from shared.telemetry.spans import Tracing

log = structlog.get_logger(__name__)

Attributes = Mapping[str, str | int | bool]


class TracingSettings(EnvironmentSettings):
    """OpenTelemetry's own variables, as far as we look at them; its kit reads the others.

    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """

    endpoint: HttpUrl | None = Field(None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    traces_endpoint: HttpUrl | None = Field(
        None, validation_alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    )
    protocol: Literal["http/protobuf"] = Field(
        "http/protobuf", validation_alias="OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    traces_protocol: Literal["http/protobuf"] = Field(
        "http/protobuf", validation_alias="OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
    )
    headers: SecretStr | None = Field(None, validation_alias="OTEL_EXPORTER_OTLP_HEADERS")
    exporter: Literal["otlp", "none"] = Field("otlp", validation_alias="OTEL_TRACES_EXPORTER")
    sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = Field("parentbased_always_on", validation_alias="OTEL_TRACES_SAMPLER")
    sampler_argument: float = Field(1.0, validation_alias="OTEL_TRACES_SAMPLER_ARG", ge=0, le=1)
    disabled: bool = Field(False, validation_alias="OTEL_SDK_DISABLED")
    service_name: str | None = Field(None, validation_alias="OTEL_SERVICE_NAME")

    @property
    def are_on(self) -> bool:
        """Whether somebody wants to have spans."""
        named = self.endpoint is not None or self.traces_endpoint is not None
        return named and self.exporter == "otlp" and not self.disabled


class Kind(IntEnum):
    """Who a span's other side is; the numbers are OpenTelemetry's."""

    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


active: Tracing | None = None
"""None while tracing is off: whoever might begin a span looks here first."""


def check_settings() -> None:
    """Raises SettingsRefused for what would keep `traced` from its work."""
    if TracingSettings.from_environment().are_on:
        _spans()


@contextmanager
def traced(service: str) -> Iterator[None]:
    """Tracing for as long as the process works, if it is wanted. Raises SettingsRefused."""
    global active
    settings = TracingSettings.from_environment()
    if active is not None or not settings.are_on:
        yield
        return
    headers = settings.headers.get_secret_value() if settings.headers else None
    name = settings.service_name or service
    active = tracing = _spans().Tracing.of_process(name, headers=headers)
    log.info("tracing_started")
    try:
        yield
    finally:
        active = None
        tracing.close()


@contextmanager
def calling(whom: str, **attributes: str | int | bool) -> Iterator[dict[str, str]]:
    """A call to somebody else, with the headers that tell them of the trace. Not for what is done
    at every turn."""
    trace = current_traceparent.get()
    if active is None:
        yield {"traceparent": trace} if trace else {}
        return
    span = active.begin(whom, Kind.CLIENT, within=trace, attributes=attributes)
    failed: str | None = None
    try:
        yield {"traceparent": span.traceparent}
    except BaseException as error:
        failed = getattr(error, "code", None) or type(error).__name__
        raise
    finally:
        span.end(failed=failed)


def _spans() -> ModuleType:
    try:
        return import_module("shared.telemetry.spans")
    except ImportError as error:
        raise SettingsRefused(
            "OTEL_EXPORTER_OTLP_ENDPOINT needs the extra `tracing`, which is not installed."
        ) from error
