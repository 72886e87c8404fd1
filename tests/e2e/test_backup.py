"""The drill of a backup, as operators make it, on a suite that is at work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.suite import Person, Suite


@pytest.mark.slow
async def test_a_restored_copy_lacks_nothing_and_counts_nothing_twice(
    suite: Suite, ada: Person, tmp_path: Path
) -> None:
    await ada.ask("What is a tooltip?")
    kept = tmp_path / "drill"

    done = await asyncio.to_thread(suite.command, "backup", "drill", "--keep", str(kept))

    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("ok ")]
    assert len(rows) >= 15
    # No secret of the suite can be read in the backup.
    secrets = [path.read_bytes() for path in suite.installation.data.secrets.rglob("*.json")]
    for path in (kept / "backup").iterdir():
        assert not any(secret in path.read_bytes() for secret in secrets)
    assert ada.api_key.encode() not in b"".join(p.read_bytes() for p in kept.glob("backup/*"))
