"""A Docker engine: the one that answers, or one of our own for as long as the proof takes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import docker  # type: ignore[import-untyped]  # it brings no types
from docker.errors import DockerException  # type: ignore[import-untyped]

from deploy.companion.errors import CompanionError
from shared.values import dataclass

DEFAULT_SOCKET = "unix:///var/run/docker.sock"
CALL_SECONDS = 120
API = "1.41"  # of Docker 20.10, the oldest that this was tried with
_START_SECONDS = 30.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.2


class NoEngine(CompanionError):
    """There is no Docker engine here, and none can be started."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers: where, and by whom it is asked (a `docker.DockerClient`)."""

    address: str
    client: Any


@contextmanager
def an_engine() -> Iterator[Engine]:
    """The engine of this machine, or one of our own. Raises NoEngine with the reason."""
    given = os.environ.get("DOCKER_HOST")
    address = given or DEFAULT_SOCKET
    client = _answering(address)
    if client is None and given:
        raise NoEngine("DOCKER_HOST is set, but no engine answers there.")
    if client is None:
        with own_engine() as own, closing(_required(own)) as client:
            yield Engine(own, client)
        return
    with closing(client):
        yield Engine(address, client)


@contextmanager
def own_engine() -> Iterator[str]:
    """A dockerd that keeps everything in a scratch folder, ended by its id; the address of it.

    Raises NoEngine.
    """
    _require_means()
    # Directly below /tmp: the path of a socket has 108 bytes.
    scratch = Path(tempfile.mkdtemp(prefix="companion-engine-", dir="/tmp"))
    address = f"unix://{scratch}/docker.sock"
    try:
        with (scratch / "log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - no shell
                _command(scratch, address),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            _wait(address, process, scratch / "log")
            yield address
        finally:
            _end(process)
    finally:
        _unmounted(scratch)
        shutil.rmtree(scratch, ignore_errors=True)


def _require_means() -> None:
    if os.geteuid() != 0:
        raise NoEngine("No Docker engine answers, and only root can start one.")
    if shutil.which("dockerd") is None:
        raise NoEngine("No Docker engine answers, and dockerd is not installed here.")


def _command(scratch: Path, address: str) -> list[str]:
    return [
        "dockerd",
        *("--host", address),
        *("--data-root", str(scratch / "data")),
        *("--exec-root", str(scratch / "exec")),
        *("--pidfile", str(scratch / "pid")),
    ]


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if (client := _answering(address)) is not None:
            client.close()
            return
        time.sleep(_POLL_SECONDS)
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise NoEngine(f"dockerd does not run here: {' '.join(last) or 'it says nothing'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _unmounted(scratch: Path) -> None:
    """Layers that an ended engine left mounted would be emptied by deleting the folder."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        place = line.split(" ")[1]
        if place.startswith(f"{scratch}/"):
            subprocess.run(["/bin/umount", "--lazy", place], check=False)  # noqa: S603


def _answering(address: str) -> Any:
    try:
        return _required(address)
    except NoEngine:
        return None


def _required(address: str) -> Any:
    scheme, _, path = address.partition("://")
    if scheme == "unix" and not Path(path).exists():
        raise NoEngine(f"There is no {path}.")
    client = docker.DockerClient(base_url=address, timeout=CALL_SECONDS, version=API)
    try:
        client.ping()
    except (DockerException, OSError) as error:
        client.close()
        raise NoEngine(f"No engine answers at {address}.") from error
    return client
