"""A client for compose: the one that is here, or Debian's, out of its package."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.companion.archives import unpack
from deploy.companion.errors import CompanionError
from deploy.companion.settings import ROOT
from shared.values import dataclass

# `required` of an `env_file`. docs/compose.md says the same.
OLDEST = (2, 24)
_HERE: Sequence[tuple[str, ...]] = (("docker", "compose"), ("docker-compose",))
_PLUGIN = "usr/libexec/docker/cli-plugins/docker-compose"
# The times of a release are of no interest here: the clock may not be the archive's.
_APT = (
    "apt-get --quiet=2 --option Acquire::Check-Date=false --option Acquire::Check-Valid-Until=false"
)
_FETCH = f"cd /tmp && {_APT} update && {_APT} download docker-compose && dpkg-deb -x *.deb /fetched"
_PASSED_ON = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_VERSION_SECONDS = 30
_LAST_WORDS = 1500


@dataclass(frozen=True, slots=True)
class Compose:
    """`docker compose` for one project: its files, and the environment that fills them."""

    program: Sequence[str]
    project: str
    files: Sequence[Path]
    environment: Mapping[str, str]

    def run(self, *words: str, seconds: float = 600) -> str:
        """Carry a command out; what it says. Raises CompanionError."""
        files = [word for path in self.files for word in ("--file", str(path))]
        try:
            done = subprocess.run(  # noqa: S603 - no shell
                [*self.program, "--project-name", self.project, *files, *words],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise CompanionError(f"compose {words[0]} took longer than {seconds:.0f} s.") from error
        if done.returncode != 0:
            raise CompanionError(f"compose {words[0]} failed: {done.stderr.strip()[-_LAST_WORDS:]}")
        return done.stdout

    @property
    def version(self) -> str:
        """What it calls itself."""
        return ".".join(map(str, version_of(self.program) or ()))


def installed() -> Sequence[str] | None:
    """A new enough client of this machine."""
    return next((p for p in _HERE if (version_of(p) or (0,)) >= OLDEST), None)


def version_of(program: Sequence[str]) -> tuple[int, ...] | None:
    """The numbers of a client's version; None when it isn't there or says something else."""
    try:
        said = subprocess.run(  # noqa: S603 - no shell
            [*program, "version", "--short"],
            capture_output=True,
            text=True,
            timeout=_VERSION_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parsed(said.stdout) if said.returncode == 0 else None


def parsed(text: str) -> tuple[int, ...] | None:
    """`2.26.1-4` as numbers."""
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text.strip())
    return tuple(map(int, match.groups())) if match else None


def from_debian(client: Any, image: str, folder: Path) -> Sequence[str]:
    """The client out of Debian's package, taken within a container of a Debian image with apt.

    Raises CompanionError.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    container = client.containers.create(
        image, ["sh", "-c", _FETCH], entrypoint=[], user="0", environment=environment
    )
    try:
        container.start()
        if container.wait(timeout=300)["StatusCode"] != 0:
            said = container.logs(tail=5).decode(errors="replace").strip()
            raise CompanionError(f"Debian's package of compose can't be fetched: {said}")
        chunks, _ = container.get_archive(f"/fetched/{_PLUGIN}")
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            unpack(archive, folder)
    finally:
        container.remove(force=True)
    program = [str(folder / "docker-compose")]
    if (version_of(program) or (0,)) < OLDEST:
        raise CompanionError("Debian's compose does not run on this machine, or is too old.")
    return program
