"""Which Python `make` makes the environment from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from deploy.companion.settings import ROOT

DISTRIBUTIONS = "/usr/bin/python3"


def chosen(path: str, *arguments: str) -> str:
    """What `PYTHON` is in the Makefile."""
    told = subprocess.run(
        ["make", "-s", "--eval", "told:; @echo $(PYTHON)", *arguments, "told"],
        cwd=ROOT,
        env={"PATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    return told.stdout.strip()


def distributions_fits() -> bool:
    """Whether an environment can be made from the distribution's."""
    needed = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([DISTRIBUTIONS, "-c", needed], capture_output=True).returncode == 0
    except OSError:
        return False


def test_the_distributions_python_is_taken_before_that_of_the_path(tmp_path: Path) -> None:
    compiled = tmp_path / "python3"
    compiled.write_text("#!/bin/sh\nexit 0\n")
    compiled.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert chosen(path) == (DISTRIBUTIONS if distributions_fits() else "python3")


def test_another_python_can_be_said() -> None:
    assert chosen(os.environ["PATH"], "PYTHON=python3.12") == "python3.12"
