"""The Docker engine, by its own command line."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class ImageError(Exception):
    """An image can't be made; the message says what to do about it."""


_SAID_LINES = 30


def run(command: Sequence[str | Path], *, seconds: float | None = None) -> str:
    """What a command says. Raises ImageError with the end of it where it fails."""
    environment = os.environ | ({} if _has_buildkit() else {"DOCKER_BUILDKIT": "0"})
    try:
        done = subprocess.run(  # noqa: S603 - our own commands, no shell
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            env=environment,
        )
    except FileNotFoundError as error:
        raise ImageError(f"`{command[0]}` is not installed on this machine.") from error
    except subprocess.TimeoutExpired as error:
        raise ImageError(
            f"`{command[0]} {command[1]}` took longer than {seconds:.0f} s."
        ) from error
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-_SAID_LINES:])
        raise ImageError(f"`{' '.join(map(str, command[:3]))} ...` failed:\n{end}")
    return done.stdout


def _has_buildkit() -> bool:
    """The older builder does as well, but where BuildKit is missing it must be asked for."""
    return any(
        (folder / "docker-buildx").exists()
        for folder in (
            Path.home() / ".docker/cli-plugins",
            Path("/usr/local/lib/docker/cli-plugins"),
            Path("/usr/local/libexec/docker/cli-plugins"),
            Path("/usr/lib/docker/cli-plugins"),
            Path("/usr/libexec/docker/cli-plugins"),
        )
    )


def check() -> None:
    """Raises ImageError where no engine answers."""
    if shutil.which("docker") is None:
        raise ImageError("Docker's command line is not installed: https://docs.docker.com/engine/")
    run(["docker", "version"], seconds=20)


@contextmanager
def alone() -> Iterator[None]:
    """Nobody else on this machine makes images meanwhile: who waits finds what was made."""
    lock = Path(tempfile.gettempdir(), f"companion-images-{os.getuid()}.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def exists(image: str) -> bool:
    return bool(run(["docker", "image", "ls", "--quiet", image]).strip())


def pull(image: str, *, seconds: float) -> bool:
    """Whether the image is here now."""
    try:
        run(["docker", "pull", "--quiet", image], seconds=seconds)
    except ImageError:
        return False
    return True


def build(
    tag: str,
    context: Path,
    dockerfile: Path,
    *,
    arguments: Mapping[str, str] | None = None,
    target: str | None = None,
) -> None:
    command: list[str | Path] = ["docker", "build", "--tag", tag, "--file", dockerfile]
    if target:
        command += ["--target", target]
    for name, value in (arguments or {}).items():
        command += ["--build-arg", f"{name}={value}"]
    run([*command, context])


def size_bytes(image: str) -> int:
    return int(run(["docker", "image", "inspect", "--format", "{{.Size}}", image]))
