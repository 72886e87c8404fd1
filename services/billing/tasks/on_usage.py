"""`usage.*`: what was used, and how far its producers have come."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.actions import Actions
from services.billing.domain.usage_columns import UsageColumns
from services.billing.tasks import listen
from services.billing.tasks.usage_text import read_text
from shared.events import Fact
from shared.events.usage import UsageAdjusted, UsageManifest, UsageRecorded, UsageVoided


@listen.to(UsageRecorded, queue="usage")
async def record_usage(facts: Sequence[Fact[UsageRecorded]], actions: Actions) -> None:
    """Into the ledger, each event once."""
    await actions.record_usage(facts)


@listen.to_whole(UsageRecorded, read=read_text)
async def record_usage_together(usage: UsageColumns, actions: Actions) -> None:
    """A batch of usage as our own producers write it, which is nearly every one, all at once."""
    await actions.record_usage.together(usage)


@listen.to(UsageManifest, queue="usage")
async def note_manifests(facts: Sequence[Fact[UsageManifest]], actions: Actions) -> None:
    """Remember the ends of the streams."""
    await actions.note_manifests(facts)


@listen.to(UsageVoided, queue="usage")
async def void_usage(facts: Sequence[Fact[UsageVoided]], actions: Actions) -> None:
    """Take back what was not to be charged."""
    await actions.apply_corrections(facts)


@listen.to(UsageAdjusted, queue="usage")
async def adjust_usage(facts: Sequence[Fact[UsageAdjusted]], actions: Actions) -> None:
    """Make it the amount that it was."""
    await actions.apply_corrections(facts)
