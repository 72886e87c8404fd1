"""A producer's half of completeness: it says how far it has come, and sends again what was lost.

A service that publishes `usage.recorded` calls `install_replay(listen)` in `tasks/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from shared.db import archive
from shared.db.database import Database
from shared.db.unit_of_work import INSERT_OUTBOX, outbox_columns
from shared.events import Fact
from shared.events.usage import UsageManifest, UsageRecorded, UsageReplayRequested
from shared.messaging.subscriptions import Listen
from shared.tiers import tier_named

log = structlog.get_logger(__name__)

MANIFEST_INTERVAL = timedelta(seconds=15)
_USAGE_STREAMS = f"{UsageRecorded.type}."
_NOBODY = UUID(int=0)  # a manifest is about no user


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
        ends = await archive.stream_ends(database, _USAGE_STREAMS)
        manifests = [_manifest(listen.service, end) for end in ends]
        if manifests:
            await database.execute(INSERT_OUTBOX, *outbox_columns(manifests))


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


def _manifest(service: str, end: archive.StreamEnd) -> Fact[UsageManifest]:
    manifest = UsageManifest(
        producer=service,
        stream=end.stream,
        epoch=end.epoch,
        last_sequence=end.last_sequence,
    )
    # A tier that no longer exists has no queue; the default one's carries its last manifests.
    tier = tier_named(end.stream.removeprefix(_USAGE_STREAMS)).name
    return Fact(event=manifest, subject=_NOBODY, tier=tier, source=service)
