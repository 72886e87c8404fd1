"""Starting the processes of a stage at once, and waiting until each of them works."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from deploy.companion.console import Console
from deploy.companion.errors import CompanionError
from deploy.companion.log_files import last_lines
from deploy.companion.programs import Kind, Role, Stage
from deploy.companion.readiness import Probe
from deploy.companion.supervision.client import ProcessState, SupervisorClient
from deploy.companion.supervision.configuration import Program

PATIENCE_SECONDS = 90
_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.2
# A worker that never says it is ready is no reason to fail: its queue keeps what is published.
_BACKGROUND_SECONDS = 20


def start_together(
    programs: Sequence[Program],
    client: SupervisorClient,
    probe_of: Callable[[Role], Probe],
    console: Console,
    while_waiting: Callable[[], None],
) -> None:
    """Start the programs; returns when all of them work. Raises CompanionError."""
    began = time.monotonic()
    for program in programs:
        client.start(program.address)
    waiting = {program: probe_of(program.role) for program in programs}
    while waiting:
        states = client.processes()
        for program, probe in tuple(waiting.items()):
            if _works(program, states[program.name], probe):
                console.done(program.name, time.monotonic() - began)
                del waiting[program]
            elif _may_be_left(program, time.monotonic() - began):
                console.warn(f"{program.name} runs, but has not said that it is ready.")
                del waiting[program]
        while_waiting()
        # Many that start at once need the processor more than they need to be asked.
        time.sleep(min(_LONGEST_PAUSE_SECONDS, len(waiting) * _PAUSE_SECONDS))


def _works(program: Program, state: ProcessState, probe: Probe) -> bool:
    # An engine may need a second try: what a killed one held is freed a moment later.
    second_chance = program.role.stage is Stage.ENGINES and not state.is_given_up
    if state.has_ended and not second_chance:
        raise _failure(program, "ended while it started")
    return state.is_up and probe()


def _may_be_left(program: Program, waited_seconds: float) -> bool:
    if waited_seconds > PATIENCE_SECONDS:
        raise _failure(program, f"is not ready after {waited_seconds:.0f} s")
    in_background = program.role.kind in (Kind.WORKER, Kind.RELAY)
    return in_background and waited_seconds > _BACKGROUND_SECONDS


def _failure(program: Program, what: str) -> CompanionError:
    said = "\n".join(f"    {line}" for line in last_lines(program.log))
    return CompanionError(
        f"{program.name} {what}. Its last lines:\n{said or '    (it logged nothing)'}",
        f"The whole log: {program.log}",
    )
