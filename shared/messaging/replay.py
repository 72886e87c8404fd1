"""A producer's half of completeness: it says how far it has come, and sends again what was lost.

A service that publishes `usage.recorded` calls `install_replay(listen)` in `tasks/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from shared.db import archive
from shared.db.database import Database
from shared.db.unit_of_work import INSERT_OUTBOX, outbox_columns
from shared.events import Fact
from shared.events.usage import UsageManifest, UsageRecorded, UsageReplayRequested, UsageSums
from shared.messaging.subscriptions import Listen
from shared.tiers import DEFAULT_TIER, TIERS, tier_named

log = structlog.get_logger(__name__)

MANIFEST_INTERVAL = timedelta(seconds=15)
HOURS_INTERVAL = timedelta(minutes=5)
_USAGE_STREAMS = f"{UsageRecorded.type}."
_MANIFEST_STREAMS = [f"{UsageManifest.type}.{tier}" for tier in TIERS]
_NOBODY = UUID(int=0)  # a manifest is about no user
_A_DAY = timedelta(days=1)
_CLOCKS_DIFFER = timedelta(minutes=1)
_MOST_HOURS = 200
_NOTHING = UsageSums(events=0, ids="0" * 32)


def install_replay(listen: Listen) -> None:
    """Make the service announce its usage streams and answer what is missed of them."""

    @listen.to(UsageReplayRequested, queue="replay", given="database")
    async def send_usage_again(
        facts: Sequence[Fact[UsageReplayRequested]], database: Database
    ) -> None:
        for fact in facts:
            # Every producer hears every request.
            if fact.event.producer == listen.service:
                await _send_again(fact.event, database)

    # Also while nothing new was used: silence would look like an outage.
    @listen.every(MANIFEST_INTERVAL, given="database")
    async def announce_usage(database: Database) -> None:
        await archive.begin_stream(database, f"{_USAGE_STREAMS}{DEFAULT_TIER.name}")
        ends = await archive.stream_ends(database, _USAGE_STREAMS)
        manifests = [_manifest(listen.service, end) for end in ends]
        if manifests:
            await database.execute(INSERT_OUTBOX, *outbox_columns(manifests))
            await database.wake_relay()

    @listen.every(HOURS_INTERVAL, given="database")
    async def announce_closed_hours(database: Database) -> None:
        manifests = await _of_closed_hours(listen.service, database)
        if manifests:
            await database.execute(INSERT_OUTBOX, *outbox_columns(manifests))
            await database.wake_relay()


async def _of_closed_hours(service: str, database: Database) -> list[Fact[UsageManifest]]:
    """What happened in the hours that are over and were not told of, and in any to which something
    was added since they were, such as a call that was settled late.

    All by the database's clock. By that of this process, which may be another one the next time, an
    hour would have been told after what was added to it since, or before what it was told to be.
    """
    now = await archive.moment(database)
    ends = {e.stream: e for e in await archive.stream_ends(database, _USAGE_STREAMS)}
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    told = await archive.hours_told(database, _MANIFEST_STREAMS)
    since = max([now - _A_DAY, *([max(told.values()) - _CLOCKS_DIFFER] if told else [])])
    touched = await archive.hours_touched(database, _USAGE_STREAMS, since=since, most=_MOST_HOURS)
    due = {
        hour for hour, at in touched.items() if hour not in told or at > told[hour] - _CLOCKS_DIFFER
    }
    past = {(stream, hour) for stream in ends for hour in _past(stream, told, this_hour)}
    due |= past - told.keys()
    hours = sorted(one for one in due if one[0] in ends and one[1] < this_hour)
    if not hours:
        return []
    sums = await archive.sums_by_hour(database, hours)
    return [
        replace(
            _manifest(service, ends[stream], hour, sums.get((stream, hour), _NOTHING)), time=now
        )
        for stream, hour in hours
    ]


def _past(
    stream: str, told: Collection[tuple[str, datetime]], this_hour: datetime
) -> list[datetime]:
    """The hours that a stream is to have told of: those of a day, and where it was silent for
    longer, all since the last one that it told of."""
    begins = this_hour - timedelta(hours=23)
    before = [hour for name, hour in told if name == stream and hour < begins]
    if before:
        longest = this_hour - timedelta(hours=_MOST_HOURS)
        begins = min(begins, max(max(before) + timedelta(hours=1), longest))
    hours = int((this_hour - begins) / timedelta(hours=1))
    return [begins + timedelta(hours=number) for number in range(hours)]


async def _send_again(asked: UsageReplayRequested, database: Database) -> None:
    if not asked.stream.startswith(_USAGE_STREAMS):
        return
    found = await archive.send_again(
        database,
        asked.stream,
        asked.epoch,
        first=asked.first_sequence,
        last=asked.last_sequence,
    )
    log.info(
        "usage_sent_again",
        stream=asked.stream,
        first=asked.first_sequence,
        last=asked.last_sequence,
        found=found,
    )


def _manifest(
    service: str,
    end: archive.StreamEnd,
    hour: datetime | None = None,
    sums: UsageSums | None = None,
) -> Fact[UsageManifest]:
    manifest = UsageManifest(
        producer=service,
        stream=end.stream,
        epoch=end.epoch,
        last_sequence=end.last_sequence,
        hour=hour,
        sums=sums,
    )
    # A tier that no longer exists has no queue; the default one's carries its last manifests.
    tier = tier_named(end.stream.removeprefix(_USAGE_STREAMS)).name
    return Fact(event=manifest, subject=_NOBODY, tier=tier, source=service)
