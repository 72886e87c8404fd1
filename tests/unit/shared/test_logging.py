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
from billiard.util import get_logger as billiard_logger

from shared.events.base import current_request_id, current_traceparent
from shared.telemetry.logging import configure_logging

LIBRARIES = (
    *("botocore.parsers", "botocore.endpoint", "boto3", "urllib3.connectionpool", "hvac"),
    *("celery", "celery.worker.strategy", "kombu", "amqp", "redis", "asyncpg", "sqlalchemy.engine"),
    *("aiohttp.client", "websockets.client", "stripe", "httpx", "httpcore.http11", "uvicorn.error"),
)
SECRET = "sk-" + "ant-api03-" + "aB3dE5fG7hJ9kL1mN2pQ4rS6"
OURS = ("services", "shared", "deploy")


@pytest.fixture
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Configures logging and reads what was written since."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    children = logging.getLogger("multiprocessing")
    handlers = list(children.handlers)
    levels = {name: logging.getLogger(name).level for name in (*OURS, "chatty", children.name)}
    out, trouble = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", trouble)
    configure_logging("chat", getattr(request, "param", "debug"))

    def read() -> list[dict[str, Any]]:
        assert trouble.getvalue() == ""
        written = out.getvalue()
        assert SECRET not in written
        return [json.loads(line) for line in written.splitlines()]

    yield read
    root.handlers, children.handlers = before[0], handlers
    root.setLevel(before[1])
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
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


def test_below_info_only_our_own_words_are_written(lines: Any) -> None:
    logging.getLogger("chatty").setLevel(logging.DEBUG)
    for name in (*LIBRARIES, "a.new.library", "servicesque", "chatty"):
        logging.getLogger(name).debug("body: %s", "what no form gives away")
    for name in OURS:
        structlog.get_logger(f"{name}.somewhere").debug("fine_detail")
    assert [(line["logger"], line["event"]) for line in lines()] == [
        (f"{name}.somewhere", "fine_detail") for name in OURS
    ]


@pytest.mark.parametrize("name", LIBRARIES)
def test_no_librarys_debug_level_is_on(lines: Any, name: str) -> None:
    """They would build their lines, and some look here before they write by themselves."""
    assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)


def test_a_workers_child_that_died_is_told_as_a_line_like_any_other(lines: Any) -> None:
    billiard_logger().error("Process %r pid:%r exited with %r", "worker-1", 7, "signal 9 (SIGKILL)")
    billiard_logger().info("child process calling self.run()")
    [line] = lines()
    assert (line["logger"], line["level"]) == ("multiprocessing", "error")
    assert line["event"] == "Process 'worker-1' pid:7 exited with 'signal 9 (SIGKILL)'"


@pytest.mark.parametrize("lines", ["warning"], indirect=True)
def test_lines_below_the_level_are_not_written(lines: Any) -> None:
    structlog.get_logger().info("quiet")
    logging.getLogger("httpx").info("GET https://x/?key=1")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines()] == ["loud"]
