"""Deleted accounts, read from the console."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.companion.errors import CompanionError
from deploy.companion.staff import auth_settings
from services.auth.domain.erasure import Erasure, Receipt
from services.auth.wiring import wire
from shared.errors import ExpectedFailure


async def recent(most: int) -> Sequence[Erasure]:
    """The newest first. Raises CompanionError."""
    try:
        async with wire(auth_settings()) as wired:
            return await wired.actions.show_erasure.latest(most=most)
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure


async def of_receipt(receipt: str) -> Erasure:
    """The one with this receipt. Raises CompanionError."""
    try:
        async with wire(auth_settings()) as wired:
            return await wired.actions.show_erasure(Receipt(receipt))
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure
