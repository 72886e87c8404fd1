"""What the billing team asks for."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from shared.errors import Forbidden, Invalid, NotFound, Unauthenticated, Unavailable


class NotBillingStaff(Forbidden):
    """Only the operator's billing team may do this."""

    code = "not_billing_staff"

    def __init__(self) -> None:
        super().__init__("Only the operator's billing team may do this.")


class BadAnalysis(Invalid):
    """An analysis that is asked for in a way that there is none of."""

    code = "bad_analysis"

    def __init__(self, parameter: str, rule: str, known: Iterable[str]) -> None:
        names = list(known)
        super().__init__(
            f"`{parameter}`: {rule} {', '.join(names)}", parameter=parameter, known=names
        )


class DashboardLinkOver(Unauthenticated):
    """A link that was used, is too old, or was never given out: all look the same."""

    code = "dashboard_link_over"

    def __init__(self) -> None:
        super().__init__("This link opens nothing any more. Ask for a new one.")


class DashboardClosed(Unauthenticated):
    """A browser that no link has let in, or whose time is over."""

    code = "dashboard_closed"

    def __init__(self) -> None:
        super().__init__("The dashboard is opened by a link: ask for one.")


class ExportNotFound(NotFound):
    """No such export."""

    code = "export_not_found"

    def __init__(self, export_id: UUID) -> None:
        super().__init__("No such export.", export_id=str(export_id))


class ExportTargetUnavailable(Unavailable):
    """The directory or bucket can't be written to just now; the same is tried again."""

    code = "export_target_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__("The exports' target can't be written to.", reason=reason)


class ExportQueueUnavailable(Unavailable):
    """The broker can't be reached just now; the queue is looked after again soon."""

    code = "export_queue_unavailable"

    def __init__(self) -> None:
        super().__init__("The export queue can't be reached.")
