"""Chat's subscriptions."""

from __future__ import annotations

from shared.messaging.subscriptions import Listen

listen = Listen("chat")
