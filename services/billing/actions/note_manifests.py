"""What producers say about how far they have come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from services.billing.domain.completeness import Stream
from services.billing.domain.errors import ManifestNotAcceptable
from services.billing.domain.manifest import HourManifest
from services.billing.domain.ports import Announcement, NewUnitOfWork
from shared.events import Fact
from shared.events.usage import UsageManifest, UsageRecorded
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class NoteManifests:
    """Remember the last number of each stream, so that a loss at its end is seen too.

    Raises ManifestNotAcceptable.
    """

    unit_of_work: NewUnitOfWork

    async def __call__(self, facts: Sequence[Fact[UsageManifest]]) -> None:
        announcements = [_announcement(fact) for fact in facts]
        hours = [hour for fact in facts if (hour := _hour(fact)) is not None]
        async with self.unit_of_work() as work:
            await work.completeness.announce(announcements)
            await work.manifests.note(hours)


def _announcement(fact: Fact[UsageManifest]) -> Announcement:
    manifest = fact.event
    if manifest.producer != fact.source or not _is_usage(manifest.stream):
        raise ManifestNotAcceptable
    if manifest.last_sequence >= 2**62:
        raise ManifestNotAcceptable
    stream = Stream(manifest.producer, manifest.epoch, manifest.stream)
    return Announcement(stream, manifest.last_sequence, fact.time)


def _hour(fact: Fact[UsageManifest]) -> HourManifest | None:
    """What the fact says of an hour; None when it is about the stream's end alone."""
    manifest = fact.event
    if manifest.hour is None or manifest.sums is None:
        return None
    hour = manifest.hour
    if (
        hour.tzinfo is None
        or hour.astimezone(UTC).replace(minute=0, second=0, microsecond=0) != hour
    ):
        raise ManifestNotAcceptable
    stream = Stream(manifest.producer, manifest.epoch, manifest.stream)
    return HourManifest(stream, hour.astimezone(UTC), fact.time, manifest.sums)


def _is_usage(stream: str) -> bool:
    return stream.startswith(f"{UsageRecorded.type}.")
