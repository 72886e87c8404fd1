"""The images of the deployment: `deploy.images` pulls or makes them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from docker.errors import ImageNotFound  # type: ignore[import-untyped]

from deploy.companion.errors import CompanionError
from deploy.companion.settings import ROOT
from deploy.images.outside import IMAGES
from deploy.images.product import BUILDER
from deploy.proof.engine import Engine

DEBIAN = BUILDER
"""A Debian that reaches its archive from here: out of it comes compose where there is none."""


def images_made(engine: Engine, folder: Path, tell: Callable[[str], None]) -> Mapping[str, str]:
    """Have all of them made; the variables by which compose finds them. Raises CompanionError."""
    began = time.monotonic()
    file = folder / "images.env"
    done = subprocess.run(  # noqa: S603 - no shell
        [sys.executable, "-m", "deploy.images", "--env", str(file)],
        cwd=ROOT,
        env={**os.environ, "DOCKER_HOST": engine.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in done.stdout.splitlines():
        tell(f"  {line}")
    if not file.exists():
        raise CompanionError("The images can't be made; see above.")
    tell(f"images are there after {time.monotonic() - began:.0f} s")
    lines = file.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def images_here(engine: Engine) -> Mapping[str, str]:
    """Those of an earlier time: the official ones that are here, else their stand-ins."""
    return {
        one.variable: one.official if _is_here(engine, one.official) else one.stand_in
        for one in IMAGES
    }


def _is_here(engine: Engine, image: str) -> bool:
    try:
        engine.client.images.get(image)
    except ImageNotFound:
        return False
    return True
