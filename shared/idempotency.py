"""One `Idempotency-Key`, one paid call: what a second request with the same key is told."""

from __future__ import annotations

from shared.errors import Conflict, Invalid


class IdempotencyKeyReused(Invalid):
    """The same key came with another request."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for a different request.")


class RequestInProgress(Conflict):
    """The first request with this key is still being answered."""

    code = "request_in_progress"

    def __init__(self) -> None:
        super().__init__("A request with this Idempotency-Key is still being answered.")
