"""Logs are one JSON object a line, with what was bound, and without secrets."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from shared.events.base import current_request_id, current_traceparent
from shared.telemetry.logging import configure_logging

SECRET = "sk-" + "ant-api03-" + "aB3dE5fG7hJ9kL1mN2pQ4rS6"


@pytest.fixture
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Configures logging and reads what was written since."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    out, trouble = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", trouble)
    configure_logging("chat", getattr(request, "param", "debug"))
    structlog.configure(cache_logger_on_first_use=False)

    def read() -> list[dict[str, Any]]:
        assert trouble.getvalue() == ""
        written = out.getvalue()
        assert SECRET not in written
        return [json.loads(line) for line in written.splitlines()]

    yield read
    root.handlers = before[0]
    root.setLevel(before[1])
    structlog.reset_defaults()


def test_a_fact_is_one_line_with_its_fields(lines: Any) -> None:
    structlog.get_logger("door").info("key_stored", provider="openai", count=3)
    [line] = lines()
    assert line["event"] == "key_stored"
    assert (line["provider"], line["count"]) == ("openai", 3)
    assert (line["service"], line["level"], line["logger"]) == ("chat", "info", "door")
    assert line["timestamp"].endswith("Z")


def test_a_line_knows_its_request_and_trace(lines: Any) -> None:
    request = current_request_id.set("request-77")
    trace = current_traceparent.set("00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    try:
        structlog.get_logger().info("one")
        logging.getLogger("somebody.elses").warning("two")
    finally:
        current_request_id.reset(request)
        current_traceparent.reset(trace)
    assert [line["request_id"] for line in lines()] == ["request-77", "request-77"]


def test_structlogs_lines_hold_no_secret(lines: Any) -> None:
    log = structlog.get_logger()
    log.info(
        f"using {SECRET}", nested={"a": [SECRET], "api_key": "plain"}, error=ValueError(SECRET)
    )
    [line] = lines()
    assert line["nested"] == {"a": ["[redacted]"], "api_key": "[redacted]"}


def test_exceptions_hold_no_secret(lines: Any) -> None:
    try:
        try:
            raise ValueError(f"cause {SECRET}")
        except ValueError as cause:
            raise RuntimeError(f"refused {SECRET}") from cause
    except RuntimeError:
        structlog.get_logger().exception("call_failed")
        logging.getLogger("somebody.elses").exception("failed with %s", SECRET)
    ours, theirs = lines()
    for line in (ours, theirs):
        assert "RuntimeError: refused [redacted]" in line["exception"]
        assert "ValueError: cause [redacted]" in line["exception"]
    assert theirs["event"] == "failed with [redacted]"


def test_the_standard_librarys_lines_are_alike(lines: Any) -> None:
    logging.getLogger("uvicorn.error").error("header x-api-key: %s", "0123456789abcdef")
    logging.getLogger("other").info("extra", extra={"api_key": "ignored"})
    first, second = lines()
    assert first["event"] == "header x-api-key: [redacted]"
    assert (first["service"], first["logger"]) == ("chat", "uvicorn.error")
    assert second["event"] == "extra"


def test_whatever_a_field_holds_the_line_is_written(lines: Any) -> None:
    structlog.get_logger().info(
        "odd",
        surrogate="\ud800",
        huge=2**100,
        numbers={1: "one"},
        nul="\0",
        raw=b"\xff",
        thing=object,
        newline="a\nb",
    )
    [line] = lines()
    assert line["huge"] == 2**100
    assert line["numbers"] == {"1": "one"}
    assert line["newline"] == "a\nb"


@pytest.mark.parametrize("lines", ["warning"], indirect=True)
def test_lines_below_the_level_are_not_written(lines: Any) -> None:
    structlog.get_logger().info("quiet")
    logging.getLogger("httpx").info("GET https://x/?key=1")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines()] == ["loud"]
