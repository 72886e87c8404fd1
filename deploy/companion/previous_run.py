"""Is companion running here, and did the run before end well?

A lock tells the first: the kernel frees it whatever way a process dies. For the second, each
process of a run carries a mark in its environment, so that what was left behind is recognised for
certain and nothing else is ever touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, field
from pathlib import Path
from signal import SIGINT, SIGTERM

import psutil

from deploy.companion.data_dir import DataDir, read_json, replace_private
from deploy.companion.engines.postgres import server_process
from deploy.companion.errors import CompanionError
from shared.values import dataclass

MARK = "COMPANION_PROCESS_OF"
"""The variable by which a process is known to belong to a data directory."""

_SUPERVISOR = "deploy.companion.supervision.daemon"
# The clock may be adjusted between two readings of the moment a process was made.
_CLOCK_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Who runs the processes of a data directory: kept on disk while they run.

    `choices` tells the passwords of the engines: the file is for its owner alone, and nobody prints
    it.
    """

    pid: int
    created_at: float
    started_at: float
    url: str
    choices: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready_after_seconds: float | None = None

    @classmethod
    def of_this_process(cls, url: str, choices: Mapping[str, str]) -> RunRecord:
        """The record of a run that begins now, with the operator's choices for it."""
        return cls(os.getpid(), psutil.Process().create_time(), time.time(), url, choices)

    @property
    def is_alive(self) -> bool:
        """Whether that very process still runs, not another with the same id."""
        return is_alive(self.pid, self.created_at)


def is_alive(pid: int, created_at: float) -> bool:
    """Whether the process that was made at this moment runs under this id."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created_at) < _CLOCK_TOLERANCE_SECONDS
    except psutil.NoSuchProcess:
        return False
    return same and _exists(process)


def read_record(data: DataDir) -> RunRecord | None:
    """The record of the latest run that did not end by itself."""
    entries = read_json(_record_file(data))
    try:
        return RunRecord(**entries)
    except TypeError:
        return None


def write_record(data: DataDir, record: RunRecord) -> None:
    """Say who runs here."""
    replace_private(_record_file(data), json.dumps(asdict(record), indent=2) + "\n")


def forget_record(data: DataDir) -> None:
    """Say that the run ended well."""
    _record_file(data).unlink(missing_ok=True)


def running(data: DataDir) -> RunRecord | None:
    """The run that is alive now, if there is one."""
    record = read_record(data)
    return record if record is not None and record.is_alive else None


@contextlib.contextmanager
def sole_run(data: DataDir) -> Iterator[None]:
    """Hold the data directory for one run. Raises CompanionError when another one has it."""
    with (data.run / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            record = read_record(data)
            who = f" (pid {record.pid}, {record.url})" if record else ""
            raise CompanionError(
                f"Companion already runs with {data.root}{who}.",
                "See `companion status`, or stop it with `companion down`.",
            ) from error
        yield


def leftovers(data: DataDir) -> list[psutil.Process]:
    """The processes of this data directory. While nobody holds its lock, they are orphans."""
    mark = str(data.root)
    found = {
        process.pid: process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _mark_of(process) == mark and _exists(process)
    }
    # PostgreSQL overwrites its environment, but tells in a file who it is.
    server = server_process(data.postgres)
    if server is not None and server not in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            found[server] = psutil.Process(server)
    return list(found.values())


def end(processes: Iterable[psutil.Process], *, patience_seconds: float = 15) -> None:
    """Stop leftovers: their supervisor first, which knows how; then whoever is still there."""
    remaining = list(processes)
    supervisors = [process for process in remaining if _is_supervisor(process)]
    _ask(supervisors)
    wait_until_gone(supervisors, patience_seconds)
    _ask(remaining)
    remaining = wait_until_gone(remaining, 5)
    for process in remaining:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_until_gone(remaining, 5)


def wait_until_gone(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until the processes have ended; returns those that have not.

    A zombie has ended: it holds neither a port nor a file, and some machines are slow to bury it.
    """
    deadline = time.monotonic() + seconds
    remaining = [process for process in processes if _exists(process)]
    while remaining and time.monotonic() < deadline:
        time.sleep(0.02)
        remaining = [process for process in remaining if _exists(process)]
    return remaining


def stop(data: DataDir, *, patience_seconds: float = 90) -> str:
    """Stop the run that is alive, and what a killed one left; says what was done, if anything."""
    record = running(data)
    if record is not None:
        process = psutil.Process(record.pid)
        with _permission(record):
            process.terminate()
        if wait_until_gone([process], patience_seconds):
            raise CompanionError(
                f"Companion (pid {record.pid}) has not stopped after {patience_seconds:.0f} s.",
                f"Look into {data.logs}; kill -9 {record.pid} is safe, the next start cleans up.",
            )
        return f"Companion (pid {record.pid}) is stopped."
    orphans = leftovers(data)
    end(orphans)
    return f"Stopped {len(orphans)} processes of a run that was killed." if orphans else ""


@contextlib.contextmanager
def _permission(record: RunRecord) -> Iterator[None]:
    try:
        yield
    except psutil.AccessDenied as error:
        raise CompanionError(
            f"Companion (pid {record.pid}) belongs to another user.", "Stop it as that user."
        ) from error


def end_group(leader: int, data: DataDir) -> None:
    """Kill what a dead process left in its group, such as the beat of a killed worker."""
    for process in leftovers(data):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if process.pid != leader and os.getpgid(process.pid) == leader:
                process.kill()


def _ask(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            # To PostgreSQL, TERM would mean to wait for its clients.
            process.send_signal(SIGINT if process.name() == "postgres" else SIGTERM)


def _exists(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_supervisor(process: psutil.Process) -> bool:
    try:
        return _SUPERVISOR in process.cmdline()
    except psutil.Error:
        return False


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def _record_file(data: DataDir) -> Path:
    return data.run / "companion.json"
