"""`usage.*`: what was used, and how far its producers have come."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.actions import Actions
from services.billing.tasks import listen
from shared.events import Fact
from shared.events.usage import UsageManifest, UsageRecorded


@listen.to(UsageRecorded, queue="usage")
async def record_usage(facts: Sequence[Fact[UsageRecorded]], actions: Actions) -> None:
    """Into the ledger, each event once."""
    await actions.record_usage(facts)


@listen.to(UsageManifest, queue="usage")
async def note_manifests(facts: Sequence[Fact[UsageManifest]], actions: Actions) -> None:
    """Remember the ends of the streams."""
    await actions.note_manifests(facts)
