"""A supervisord of our own, from its start to the end of its last process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.companion.errors import CompanionError
from deploy.companion.log_files import last_lines
from deploy.companion.programs import Stage
from deploy.companion.supervision.client import SupervisorClient, SupervisorGone
from deploy.companion.supervision.configuration import Program, Supervisor, render

_START_SECONDS = 20
_END_SECONDS = 5
_POLL_SECONDS = 0.025


class Session:
    """Runs the processes of one run; none of them is started until it is asked for."""

    def __init__(self, files: Supervisor, programs: Mapping[str, Program]) -> None:
        self.programs = programs
        self.client = SupervisorClient(files.socket)
        self._files = files
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def configuration(self) -> str:
        """The text of supervisord's configuration file."""
        return render(self._files, self.programs.values())

    @property
    def own_output(self) -> Path:
        """What supervisord says where its log can't: why it did not start, or ended."""
        return self._files.log.with_name("supervisord-start.log")

    @property
    def is_alive(self) -> bool:
        """Whether supervisord runs."""
        return self._process is not None and self._process.poll() is None

    def open(self, configuration: Path, environment: Mapping[str, str]) -> None:
        """Start supervisord and wait until it answers. Raises CompanionError."""
        self._files.socket.unlink(missing_ok=True)
        output = self.own_output
        module = "deploy.companion.supervision.daemon"
        with output.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(os.getpid()), "-c", str(configuration)],
                cwd=self._files.directory,
                # Its configuration is written in UTF-8, whatever the terminal speaks.
                env={**environment, "PYTHONUTF8": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for companion alone, which stops the processes in order.
                start_new_session=True,
            )
        if not self._answers_within(_START_SECONDS):
            said = " ".join(last_lines(output, 3))
            raise CompanionError(f"supervisord did not start: {said}", f"See {output}.")

    def close(self) -> None:
        """Stop the processes, the last stage first, and then supervisord."""
        if self._process is None:
            return
        # It may be stopping them already, one after the other: systemd tells every process to end.
        patience = sum(self._patience(stage) for stage in Stage)
        try:
            for stage in reversed(Stage):
                self._stop(stage)
            self.client.shut_down()
            patience = 0
        except SupervisorGone:
            pass
        finally:
            self._end(self._process, patience + _END_SECONDS)

    def of_stage(self, stage: Stage) -> list[Program]:
        """The processes that start and stop together."""
        return [program for program in self.programs.values() if program.role.stage is stage]

    def _answers_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.is_alive and time.monotonic() < deadline:
            with contextlib.suppress(SupervisorGone):
                self.client.wake()
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _stop(self, stage: Stage) -> None:
        programs = self.of_stage(stage)
        for program in programs:
            self.client.stop(program.address)
        # supervisord kills who takes too long.
        deadline = time.monotonic() + self._patience(stage) + 2
        while programs and time.monotonic() < deadline:
            states = self.client.processes()
            programs = [p for p in programs if not states[p.name].is_stopped]
            time.sleep(_POLL_SECONDS if programs else 0)

    def _patience(self, stage: Stage) -> int:
        return max((program.role.stop_seconds for program in self.of_stage(stage)), default=0)

    def _end(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            # Any question wakes it; by itself it looks up once a second.
            with contextlib.suppress(SupervisorGone):
                self.client.wake()
            time.sleep(_POLL_SECONDS)
        process.kill()
        process.wait()
