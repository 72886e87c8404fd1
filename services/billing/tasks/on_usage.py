"""`usage.*`: what was used, and how far its producers have come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.billing.actions import Actions
from services.billing.tasks import listen
from services.billing.tasks.usage_envelopes import read_columns
from shared.events import Fact
from shared.events.usage import UsageAdjusted, UsageManifest, UsageRecorded, UsageVoided


@listen.to(UsageRecorded, queue="usage")
async def record_usage(facts: Sequence[Fact[UsageRecorded]], actions: Actions) -> None:
    """Into the ledger, each event once."""
    await actions.record_usage(facts)


@listen.to_whole(UsageRecorded)
async def record_usage_together(envelopes: Sequence[Mapping[str, Any]], actions: Actions) -> bool:
    """A batch of usage as our own producers write it, which is nearly every one, all at once."""
    usage = read_columns(envelopes)
    if usage is None:
        return False
    await actions.record_usage.together(usage)
    return True


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
