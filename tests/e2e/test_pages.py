"""What the four pages of the public ways in tell people to copy works as it stands there."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.companion.settings import ROOT
from tests.support.pages import five_minutes
from tests.support.suite import Suite

pytestmark = pytest.mark.e2e

# What the last commands of each page show when all before them went well.
SHOWN = {
    "for-the-extension.md": ("event: start", "event: done"),
    "for-developers.md": ("tooltip",),
    "for-billing.md": ('"accepted":1', '"duplicates":1', "event_id", '"status":"draft"'),
    "for-sres.md": ("The tour is complete.",),
}


@pytest.mark.parametrize("page", SHOWN)
async def test_five_minutes_are_copied_and_work(suite: Suite, page: str) -> None:
    done = await asyncio.to_thread(run, suite, five_minutes(page))
    assert done.returncode == 0, done.stdout + done.stderr
    for words in SHOWN[page]:
        assert words in done.stdout


def run(suite: Suite, script: str) -> subprocess.CompletedProcess[str]:
    """As somebody at the console of the suite, who has its environment active."""
    settings = suite.installation.settings
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(suite.output.parent),
            "GATEWAY": suite.url,
            "COMPANION_DATA_DIR": str(settings.data_dir),
            "PORT": str(settings.port),
            "SANDBOX": "1",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
