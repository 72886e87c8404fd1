"""Failures of erasing an account, and of exporting it before."""

from __future__ import annotations

from datetime import timedelta

from shared.errors import Conflict, NotFound, Unavailable


class AccountBusy(Conflict):
    """The account changed in the same moment in which it was to be deleted."""

    code = "account_busy"

    def __init__(self) -> None:
        super().__init__("Something about this account changed at the same moment. Try again.")


class ErasureNotFound(NotFound):
    """No account was deleted under this receipt."""

    code = "erasure_not_found"

    def __init__(self) -> None:
        super().__init__("No account was deleted with this receipt.")


class ExportUnavailable(Unavailable):
    """A service can't tell what it keeps about the user; an export is whole or not at all."""

    code = "export_unavailable"

    def __init__(self, service: str) -> None:
        super().__init__(
            f"The export can't be made at the moment: {service} does not answer.",
            retry_after=timedelta(seconds=30),
            service=service,
        )


class TooManyExports(Unavailable):
    """So many exports are being made or read that one more would wait too long or find no room."""

    code = "too_many_exports"

    def __init__(self) -> None:
        super().__init__(
            "Too many exports at once. Try again in a moment.", retry_after=timedelta(seconds=15)
        )
