"""What is told of usage, and how it is read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from shared.errors import Conflict, Forbidden, Invalid, LimitReached, NotFound


class UsageNotAcceptable(Invalid):
    """A usage event that can't stand in the ledger; it is put aside and counts as dead."""

    code = "usage_not_acceptable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"This usage can't be recorded: {reason}.", reason=reason)


class ManifestNotAcceptable(Invalid):
    """A manifest in another producer's name, or about no stream of its."""

    code = "manifest_not_acceptable"

    def __init__(self) -> None:
        super().__init__("A producer announces its own usage streams only.")


class UsageRecordNotFound(NotFound):
    """Also raised for another user's record, so that ids can't be probed."""

    code = "usage_record_not_found"

    def __init__(self, event_id: UUID) -> None:
        super().__init__("No such usage record.", event_id=str(event_id))


class BadPeriod(Invalid):
    """A span of time that can't be read, or that no report is made for."""

    code = "bad_period"


class BadGrouping(Invalid):
    """Something that usage can't be grouped by."""

    code = "bad_grouping"

    def __init__(self, known: Iterable[str]) -> None:
        names = list(known)
        super().__init__(
            f"`group_by` lists some of {', '.join(names)}, each once.", dimensions=names
        )


class OrganisationUsageNotFound(NotFound):
    """No organisation that the caller belongs to."""

    code = "organisation_usage_not_found"

    def __init__(self) -> None:
        super().__init__("No such organisation.")


class UsageAdminRequired(Forbidden):
    """The caller belongs to the organisation, and does not decide about its keys."""

    code = "usage_admin_required"

    def __init__(self) -> None:
        super().__init__("This is for the organisation's owners and admins.")


class UsageNotReadable(Invalid):
    """A report of usage that is no CloudEvent and no list of them."""

    code = "usage_not_readable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class TooManyReports(LimitReached):
    """A reporter that sends single events in a flood: batches carry five hundred."""

    code = "too_many_reports"

    def __init__(self, a_minute: int, retry_after: timedelta) -> None:
        super().__init__(
            f"At most {a_minute} reports a minute; a batch carries up to 500 events.",
            retry_after=retry_after,
            limit=a_minute,
        )


class UsageVoidedAlready(Conflict):
    """What was voided can't be corrected any more."""

    code = "usage_voided_already"

    def __init__(self, event_id: UUID) -> None:
        super().__init__("This usage is voided.", event_id=str(event_id))


class UsageNotPriced(Conflict):
    """An amount of unknown price can't be adjusted; it can be voided."""

    code = "usage_not_priced"

    def __init__(self, event_id: UUID) -> None:
        super().__init__("The price of this usage is not known yet.", event_id=str(event_id))


class AdjustmentNotAcceptable(Invalid):
    """An adjustment that changes nothing, or after which less than nothing would be left."""

    code = "adjustment_not_acceptable"

    def __init__(self) -> None:
        super().__init__("An adjustment changes something and leaves nothing below zero.")


class AdjustmentKeyReused(Conflict):
    """The same key with another request would be answered with what was not asked for."""

    code = "adjustment_key_reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another adjustment of this entry.")


class HeldUsageNotFound(NotFound):
    """It was never held, was put right, or somebody has refused it."""

    code = "held_usage_not_found"

    def __init__(self) -> None:
        super().__init__("No such usage is held.")


class AgedUsageChanged(Conflict):
    """More has come since it was listed, or somebody has decided about it."""

    code = "aged_usage_changed"

    def __init__(self) -> None:
        super().__init__("This usage does not wait like that any more. Look at the list again.")


class SecondPersonNeeded(Conflict):
    """Who approved first does not approve a second time."""

    code = "second_person_needed"

    def __init__(self) -> None:
        super().__init__("You have approved this usage. Somebody else of the team has to, as well.")


class CorrectionNotAllowed(Forbidden):
    """A producer corrects its own usage only."""

    code = "correction_not_allowed"

    def __init__(self, event_id: UUID) -> None:
        super().__init__("A producer corrects its own usage only.", event_id=str(event_id))
