"""What waits while an engine is not there yet, and what it says when it never is."""

from __future__ import annotations

import pytest
from amqp.exceptions import InternalError

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
    prepare.prepare("billing", "postgresql://db", "amqp://broker")
    assert asked == ["amqp://broker"] * 3


def test_one_that_never_is_ends_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    def declare(*_: object) -> None:
        raise InternalError("cluster_not_formed")

    monkeypatch.setattr(prepare, "declare_queues", declare)
    monkeypatch.setattr(prepare, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(InternalError):
        prepare.prepare("billing", "postgresql://db", "amqp://broker")
