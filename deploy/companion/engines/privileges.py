"""How PostgreSQL is run by root: it refuses to, so it gets another user id and nothing else.

No system user is made and no directory outside the data directory is changed. The checkout may lie
below a directory that the other user id can't enter (mode 700); then the process keeps exactly one
capability that lets it pass.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from deploy.companion.errors import CompanionError

NOBODY = 65534
"""The user id that owns nothing, by custom."""

# initdb asks access(2) whether it can run its programs. For a user other than root that call
# forgets all capabilities, unless this bit says not to adjust them to user ids (capabilities(7)).
_KEEP_FOR_ACCESS = "--securebits=+no_setuid_fixup"
_SETS = ("inh-caps", "ambient-caps", "bounding-set")


def owner_for(data: Path) -> int | None:
    """The user id to run an engine with; None means as we are.

    A data directory that another user owns already is served under that user's id.
    """
    if os.geteuid() != 0:
        return None
    owner = data.stat().st_uid if data.exists() else 0
    return owner or NOBODY


def prefix(uid: int | None, paths: Iterable[Path], *, parent_death: str = "INT") -> list[str]:
    """The words before a command that run it as `uid`, able to enter each of `paths`.

    Where the system can, the process is also sent `parent_death` when its parent dies.
    """
    setpriv = _setpriv()
    if setpriv is None:
        return _plain_prefix(uid, paths)
    words = [setpriv, "--pdeathsig", parent_death]
    if uid is None:
        return words
    words += ["--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
    barrier = first_barrier(paths)
    if barrier is None:
        return [*words, "--bounding-set=-all"]
    capability = _capability_to_pass(barrier)
    return [*words, _KEEP_FOR_ACCESS, *(f"--{kind}=-all,+{capability}" for kind in _SETS)]


def first_barrier(paths: Iterable[Path]) -> Path | None:
    """The first directory on the way to `paths` that strangers can't enter."""
    for path in paths:
        for directory in reversed(path.absolute().parents):
            if directory.exists() and not directory.stat().st_mode & stat.S_IXOTH:
                return directory
    return None


def _plain_prefix(uid: int | None, paths: Iterable[Path]) -> list[str]:
    if uid is None:
        return []
    barrier = first_barrier(paths)
    if barrier is not None:
        raise _cannot_pass(barrier, "Install setpriv (package util-linux)")
    # Isolated and by its path: the other user need not be able to enter the working directory.
    return [sys.executable, "-I", str(Path(__file__).with_name("as_user.py")), str(uid)]


def _capability_to_pass(barrier: Path) -> str:
    # The weaker capability is enough to enter directories, but containers often hold the other
    # one only.
    held = _held_capabilities()
    for bit, name in ((2, "dac_read_search"), (1, "dac_override")):
        if held & 1 << bit:
            return name
    raise _cannot_pass(barrier, "Give the container the capability DAC_OVERRIDE")


def _held_capabilities() -> int:
    """The capabilities that this process has and may hand on, as the kernel's bit mask."""
    lines = Path("/proc/self/status").read_text().splitlines()
    masks = dict(line.split(":\t") for line in lines if line.startswith("Cap"))
    return int(masks["CapEff"], 16) & int(masks["CapBnd"], 16)


def _cannot_pass(barrier: Path, remedy: str) -> CompanionError:
    return CompanionError(
        f"PostgreSQL can't run as root, and no other user can enter {barrier}.",
        f"{remedy}, start companion as an ordinary user, or move the checkout.",
    )


@cache
def _setpriv() -> str | None:
    """The path of util-linux's setpriv; other programs of that name lack what we need."""
    path = shutil.which("setpriv") if sys.platform == "linux" else None
    if path is None:
        return None
    usage = subprocess.run([path, "--help"], capture_output=True, text=True, check=False)
    needed = ("--pdeathsig", "--ambient-caps", "--clear-groups")
    return path if all(option in usage.stdout for option in needed) else None
