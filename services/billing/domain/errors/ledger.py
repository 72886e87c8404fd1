"""The ledger's months, its sums and its archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.errors import Conflict, Invalid, NotFound


class BadMonth(Invalid):
    """A month that can't be read."""

    code = "bad_month"

    def __init__(self) -> None:
        super().__init__("A month is written like `2026-11`.")


class PeriodNotOver(Conflict):
    """The month, or the time for what comes late, is not over."""

    code = "period_not_over"

    def __init__(self, month: str, closes_from: datetime) -> None:
        super().__init__("This month can't be closed yet.", month=month, closes_from=closes_from)


class PeriodClosed(Conflict):
    """A month is closed once."""

    code = "period_closed"

    def __init__(self, month: str) -> None:
        super().__init__("This month is closed already, and stays so.", month=month)


class PeriodNotComplete(Conflict):
    """Something is missing or waits; a named person may waive it, with a reason."""

    code = "period_not_complete"

    def __init__(self, month: str, findings: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(
            "Not everything of this month is there and priced.",
            month=month,
            findings=list(findings),
        )


class PeriodNotFound(NotFound):
    """This month was not closed."""

    code = "period_not_found"

    def __init__(self, month: str) -> None:
        super().__init__("This month is not closed.", month=month)


class DriftNotFound(NotFound):
    """No such drift, or one that was repaired."""

    code = "drift_not_found"

    def __init__(self, drift_id: int) -> None:
        super().__init__("There is no such drift to repair.", drift_id=drift_id)


class ArchiveUnreadable(Conflict):
    """An archived partition's file is not there or can't be read."""

    code = "archive_unreadable"

    def __init__(self, partition: str) -> None:
        super().__init__("The archive's file can't be read.", partition=partition)
