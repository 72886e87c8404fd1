"""Starting the processes of a stage at once, and waiting until each of them works."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from deploy.companion.console import Console
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.log_files import last_lines
from deploy.companion.ports import holder_of, is_free, listens_itself
from deploy.companion.programs import Kind, Role, Stage
from deploy.companion.readiness import Probe
from deploy.companion.supervision.client import ProcessState, SupervisorClient
from deploy.companion.supervision.configuration import Program

_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.2
# A worker that never says it is ready is no reason to fail: its queue keeps what is published.
_BACKGROUND_SECONDS = 20


def start_together(
    programs: Sequence[Program],
    client: SupervisorClient,
    installation: Installation,
    console: Console,
    while_waiting: Callable[[], None],
) -> None:
    """Start the programs; returns when all of them work. Raises CompanionError."""
    began = time.monotonic()
    patience_seconds = installation.settings.start_seconds
    for program in programs:
        client.start(program.address)
    waiting = {program: _Asked(program, installation) for program in programs}
    while waiting:
        states = client.processes()
        for program, asked in tuple(waiting.items()):
            if asked.works(states[program.name]):
                console.done(program.name, time.monotonic() - began)
                del waiting[program]
            elif _may_be_left(program, time.monotonic() - began, patience_seconds):
                console.warn(f"{program.name} is still starting; what it is to do waits for it.")
                del waiting[program]
        while_waiting()
        # Many that start at once need the processor more than they need to be asked.
        time.sleep(min(_LONGEST_PAUSE_SECONDS, len(waiting) * _PAUSE_SECONDS))


class _Asked:
    """One program, while it is waited for."""

    def __init__(self, program: Program, installation: Installation) -> None:
        self._program = program
        self._probe: Probe = installation.probe(program.role)
        self._port = installation.asked_port(program.role)

    def works(self, state: ProcessState) -> bool:
        """Whether it does, and not another who has its port. Raises CompanionError."""
        # An engine may need a second try: what a killed one held is freed a moment later.
        second_chance = self._program.role.stage is Stage.ENGINES and not state.is_given_up
        if state.has_ended and not second_chance:
            raise _ended(self._program, self._port)
        return state.is_up and self._probe() and self._is_itself(state.pid)

    def _is_itself(self, pid: int) -> bool:
        return self._port is None or listens_itself(pid, self._port)


def _may_be_left(program: Program, waited_seconds: float, patience_seconds: float) -> bool:
    if waited_seconds > patience_seconds:
        raise _failure(
            program,
            f"is not ready after {waited_seconds:.0f} s",
            "; a busy machine needs a higher COMPANION_START_SECONDS",
        )
    in_background = program.role.kind in (Kind.WORKER, Kind.RELAY)
    return in_background and waited_seconds > _BACKGROUND_SECONDS


def _ended(program: Program, port: int | None) -> CompanionError:
    if port is None or is_free(port):
        return _failure(program, "ended while it started")
    holder = holder_of(port) or "another process"
    return CompanionError(
        f"{program.name} did not get its port: {port} is taken by {holder}.",
        _elsewhere(program.role),
    )


def _elsewhere(role: Role) -> str:
    if role.name == "gateway":
        return "Stop it, or choose another with PORT=… ."
    return "Start again: another port is chosen then."


def _failure(program: Program, what: str, hint: str = "") -> CompanionError:
    said = "\n".join(f"    {line}" for line in last_lines(program.log))
    return CompanionError(
        f"{program.name} {what}. Its last lines:\n{said or '    (it logged nothing)'}",
        f"The whole log: {program.log}{hint}",
    )
