"""Which of the events that were put aside can be sent again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from deploy.companion.dead_letters import can_be_sent
from shared.events.usage import UsageRecorded
from shared.messaging.dead_events import PROCESS_LOST, DeadEvent

ENVELOPE = {"id": "an-id", "tier": "free"}


@pytest.mark.parametrize(
    ("task", "reason", "body", "can"),
    [
        (UsageRecorded.type, "handler_failed: Test", ENVELOPE, True),
        (UsageRecorded.type, "handler_failed: Test", {**ENVELOPE, "tier": "platinum"}, True),
        (UsageRecorded.type, "handler_failed: Test", {"id": "an-id"}, False),
        (UsageRecorded.type, "unreadable_batch: the hash does not fit", [ENVELOPE], False),
        (UsageRecorded.type, PROCESS_LOST, [ENVELOPE], False),
        ("usage.forgotten", "handler_failed: Test", ENVELOPE, False),
    ],
)
def test_what_has_somewhere_to_go_can_be_sent(
    task: str, reason: str, body: Any, *, can: bool
) -> None:
    event = DeadEvent(1, task, reason, body, datetime.now(UTC), None)
    assert can_be_sent("billing", event) is can
