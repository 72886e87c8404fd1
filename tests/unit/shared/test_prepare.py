"""What waits while an engine is not there yet, and what it says when it never is."""

from __future__ import annotations

from collections.abc import Callable
from socket import gaierror

import pytest
import structlog
from amqp.exceptions import InternalError
from kombu.exceptions import OperationalError
from sqlalchemy.exc import OperationalError as DatabaseError

from shared.messaging import prepare


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(prepare, "upgrade", lambda *_: None)


def test_a_broker_that_is_not_formed_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [InternalError("cluster_not_formed"), ConnectionRefusedError(), None]
    asked = []

    def declare(_listen: object, url: str) -> None:
        asked.append(url)
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(prepare, "declare_queues", declare)
    prepare.prepare("billing", "postgresql://db", "amqp://broker", 60)
    assert asked == ["amqp://broker"] * 3


def test_one_that_never_is_ends_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    def declare(*_: object) -> None:
        raise InternalError("cluster_not_formed")

    monkeypatch.setattr(prepare, "declare_queues", declare)
    with pytest.raises(InternalError):
        prepare.prepare("billing", "postgresql://db", "amqp://broker", 0)


def test_it_tells_for_whom_it_waits_and_why_once_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = gaierror(-2, "Name or service not known")
    wrapped = OperationalError("amqp://billing:s3cret@broker")
    wrapped.__cause__ = ConnectionRefusedError(111, "Connection refused")
    database = DatabaseError("SELECT 1", {}, Exception("starting up\nmore"))
    unformed = InternalError("cluster_not_formed")
    answers: list[Exception | None] = [unknown, unknown, wrapped, unformed, None]

    def fail_first(answers: list[Exception | None]) -> Callable[..., None]:
        def do(*_: object) -> None:
            if (answer := answers.pop(0)) is not None:
                raise answer

        return do

    monkeypatch.setattr(prepare, "upgrade", fail_first([database, database, None]))
    monkeypatch.setattr(prepare, "declare_queues", fail_first(answers))
    with structlog.testing.capture_logs() as lines:
        prepare.prepare("billing", "postgresql://db", "amqp://broker", 60)
    told = [(line["waits_for"], line["reason"], line["seconds_left"]) for line in lines]
    assert told == [
        ("database", "starting up", 60),
        ("broker", "Name or service not known", 60),
        ("broker", "Connection refused", 60),
        ("broker", "InternalError", 60),
    ]
