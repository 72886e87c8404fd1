"""A worker or a relay is ready for as long as it says so, and not because it once did."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from deploy.companion.data_dir import DataDir
from deploy.companion.environment import ready_file
from deploy.companion.installation import Installation
from deploy.companion.ports import free_port
from deploy.companion.settings import Settings


@pytest.mark.parametrize("name", ["relay", "chat-worker"])
def test_who_renews_its_file_no_longer_is_not_ready(tmp_path: Path, name: str) -> None:
    told = {"COMPANION_DATA_DIR": str(tmp_path), "PORT": str(free_port())}
    installation = Installation.open(Settings.from_environment(told))
    installation.data.create()
    installation.assign_ports()
    role = installation.role(name)
    file = ready_file(role, DataDir(tmp_path))
    now = time.time()
    starts = installation.probe(role)
    works = installation.probe(role, thorough=True, since=now - 500)
    assert not starts() and not works()
    file.touch()
    assert starts() and works()
    os.utime(file, (now - 100, now - 100))
    # It has hung since, or waits for its broker.
    assert starts() and not works()
    os.utime(file, (now - 600, now - 600))
    assert not installation.probe(role, since=now - 500)()
