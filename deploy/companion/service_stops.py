"""Stops of services that use keys, from the console: keyvault's verbs, run in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from deploy.companion.console import Console
from deploy.companion.errors import CompanionError
from deploy.companion.key_rotation import keyvault_settings
from deploy.companion.who import at_the_console
from services.keyvault.actions import Actions
from services.keyvault.domain.service_use import ServiceStop, Standing, UseLimits
from services.keyvault.wiring import wire
from shared.errors import ExpectedFailure


async def status(most: int) -> str:
    """How services stand, as a table, and the last stops below it."""
    async with _desk() as actions:
        standings, stops = await actions.show_services(most=most)
        return _table(standings, stops, actions.show_services.limits)


async def stop(service: str, reason: str) -> bool:
    """Answers False when it was stopped already."""
    async with _desk() as actions:
        return await actions.stop_service(service, by=at_the_console(), reason=reason)


async def resume(service: str) -> None:
    """Let it go on."""
    async with _desk() as actions:
        await actions.resume_service(service, by=at_the_console())


@asynccontextmanager
async def _desk() -> AsyncIterator[Actions]:
    """The keyvault's verbs. Raises CompanionError for whatever goes wrong."""
    try:
        async with wire(keyvault_settings()) as wired:
            yield wired.actions
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure


def _table(standings: Sequence[Standing], stops: Sequence[ServiceStop], limits: UseLimits) -> str:
    console = Console()
    minutes = int(limits.window.total_seconds() // 60)
    users = f"users in {minutes} min"
    lines = [f"{'service':<10}{'uses/s':>8}{users:>18}  state"]
    for standing in standings:
        state = console.mark("stopped" if standing.stop else "running")
        lines.append(f"{standing.service:<10}{standing.elsewhere:>8}{standing.users:>18}  {state}")
    lines.append(f"{'limit':<10}{limits.uses_per_second:>8}{limits.users_per_window:>18}  0 = none")
    for stop in stops:
        until = f"{stop.resumed_at:%F %T} by {stop.resumed_by}" if stop.resumed_at else "now"
        lines.append(
            f"{stop.service} stopped {stop.stopped_at:%F %T} by {stop.stopped_by} until {until}: "
            f"{stop.reason}"
        )
    return "\n".join(lines)
