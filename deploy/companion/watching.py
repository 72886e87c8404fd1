"""Watching the processes while they run: saying what happened to them, never giving one up."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from deploy.companion.console import Console
from deploy.companion.errors import CompanionError
from deploy.companion.supervision.client import ProcessState, SupervisorGone
from deploy.companion.supervision.session import Session

_WATCH_SECONDS = 1.0
_REVIVE_SECONDS = 30


class Watch:
    """Compares what supervisord says with what it said a moment ago."""

    def __init__(
        self, session: Session, console: Console, bury_group: Callable[[int], None]
    ) -> None:
        self._session = session
        self._console = console
        self._bury_group = bury_group
        self._known: dict[str, ProcessState] = {}
        self._given_up: dict[str, float] = {}

    def forever(self, meanwhile: Callable[[], None]) -> NoReturn:
        """Watch until a signal ends it. Raises CompanionError when supervisord is gone."""
        while True:
            self._look()
            meanwhile()
            time.sleep(_WATCH_SECONDS)

    def _look(self) -> None:
        try:
            now = self._session.client.processes()
            for name, state in now.items():
                self._notice(state, self._known.get(name, state))
                self._revive(state)
            self._known = now
        except SupervisorGone as error:
            if not self._session.is_alive:
                output = self._session.own_output
                raise CompanionError(
                    "supervisord ended unexpectedly, so everything was stopped.",
                    f"See {output} and supervisord.log beside it, and whether the disk is full "
                    f"({_free_mebibytes(output)} MiB are free there); then start again.",
                ) from error

    def _notice(self, state: ProcessState, before: ProcessState) -> None:
        if before.pid in (0, state.pid) or state.state in {"STOPPING", "STOPPED"}:
            return
        # A worker that was killed leaves its children behind, and its beat would go on ticking.
        self._bury_group(before.pid)
        log = self._session.programs[state.name].log
        self._console.warn(f"{state.name} is being started again; its log: {log}")

    def _revive(self, state: ProcessState) -> None:
        """Start again what supervisord has given up, after a pause."""
        if not state.is_given_up:
            self._given_up.pop(state.name, None)
            return
        if state.name not in self._given_up:
            self._given_up[state.name] = time.monotonic()
            self._console.warn(f"{state.name} keeps failing; next try in {_REVIVE_SECONDS} s.")
        elif time.monotonic() - self._given_up[state.name] > _REVIVE_SECONDS:
            del self._given_up[state.name]
            self._session.client.start(state.address)


def _free_mebibytes(path: Path) -> int:
    return shutil.disk_usage(path.parent).free >> 20
