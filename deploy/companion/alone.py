"""The embedded engines without any service, for what is done while nothing runs."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.previous_run import MARK
from deploy.companion.programs import Kind

_POLL_SECONDS = 0.05


@contextlib.contextmanager
def engines_alone(installation: Installation) -> Iterator[None]:
    """The embedded engines alone, for the length of a block."""
    installation.assign_ports()
    installation.prepare_engines()
    engines = [role for role in installation.roles if role.kind in (Kind.POSTGRES, Kind.VALKEY)]
    running: list[tuple[subprocess.Popen[bytes], int]] = []
    try:
        for role in engines:
            is_postgres = role.kind is Kind.POSTGRES
            one = installation.postgres() if is_postgres else installation.valkey()
            running.append(
                (
                    _start(one.command(), installation.data.log(role.name), installation),
                    2 if is_postgres else 15,
                )
            )
            _await(one.is_ready, role.name, installation)
        if installation.settings.embeds_postgres:
            installation.postgres().ensure_role()
        yield
    finally:
        for process, how in reversed(running):
            process.send_signal(how)
        for process, _ in running:
            process.wait(installation.settings.start_seconds)


def _start(
    command: Sequence[str], log: Path, installation: Installation
) -> subprocess.Popen[bytes]:
    environment: Mapping[str, str] = {
        **installation.machine_environment(),
        # So that the next start finds what a killed restore has left.
        MARK: str(installation.data.root),
    }
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd="/",
        )


def _await(is_ready: Callable[[], bool], name: str, installation: Installation) -> None:
    deadline = time.monotonic() + installation.settings.start_seconds
    while not is_ready():
        if time.monotonic() > deadline:
            raise CompanionError(f"{name} did not start.", f"See {installation.data.log(name)}.")
        time.sleep(_POLL_SECONDS)
