"""`webhook.*`: endpoints that nothing is sent to any more. Published by billing."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from shared.events.base import Event


class WebhookDisabled(Event):
    """An endpoint was given up: it failed for days, or said that it is gone. `user_id` made it."""

    type = "webhook.disabled"

    user_id: UUID
    webhook_id: UUID
    host: str
    reason: Literal["failing", "gone"]
    disabled_at: datetime
