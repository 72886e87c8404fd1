"""A run that was killed is recognised for certain, and nothing else is taken for one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.companion.data_dir import DataDir
from deploy.companion.errors import CompanionError
from deploy.companion.previous_run import (
    MARK,
    RunRecord,
    end,
    end_group,
    forget_record,
    is_alive,
    leftovers,
    read_record,
    running,
    sole_run,
    stop,
    write_record,
)

SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    data = DataDir(tmp_path / "data")
    data.create()
    return data


@pytest.fixture
def orphan(data: DataDir) -> Iterator[subprocess.Popen[bytes]]:
    """A process as a run of this data directory would leave it behind."""
    environment = {**os.environ, MARK: str(data.root)}
    with subprocess.Popen(
        SLEEP, env=environment, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def a_dead_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def test_the_running_one_is_found(data: DataDir) -> None:
    record = RunRecord.of_this_process("http://127.0.0.1:1", {"PORT": "1"})
    write_record(data, record)
    assert running(data) == record


def test_a_run_that_ended_well_leaves_no_record(data: DataDir) -> None:
    write_record(data, RunRecord.of_this_process("http://127.0.0.1:1", {"PORT": "1"}))
    forget_record(data)
    assert read_record(data) is None


def test_a_dead_process_is_not_running(data: DataDir) -> None:
    write_record(data, RunRecord(a_dead_pid(), 1.0, 1.0, "http://127.0.0.1:1"))
    assert running(data) is None
    assert read_record(data) is not None


def test_another_process_with_the_same_id_is_not_taken_for_it() -> None:
    made = psutil.Process().create_time()
    assert is_alive(os.getpid(), made)
    assert not is_alive(os.getpid(), made - 60)


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen(["true"])
    made = psutil.Process(process.pid).create_time()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(process.pid, made)
    process.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "unknown": 2}'])
def test_a_damaged_record_is_no_record(data: DataDir, text: str) -> None:
    (data.run / "companion.json").write_text(text)
    assert read_record(data) is None


def test_a_data_directory_serves_one_run_at_a_time(data: DataDir) -> None:
    write_record(data, RunRecord(4711, 1.0, 1.0, "http://127.0.0.1:8080"))
    with sole_run(data):
        with (
            pytest.raises(CompanionError, match=r"already runs.*pid 4711") as caught,
            sole_run(data),
        ):
            pass
        assert "companion down" in caught.value.remedy
    with sole_run(data):
        pass


def test_an_orphan_is_found_and_ended(data: DataDir, orphan: subprocess.Popen[bytes]) -> None:
    found = leftovers(data)
    assert [process.pid for process in found] == [orphan.pid]
    end(found)
    assert not leftovers(data)
    assert orphan.wait() != 0


def test_processes_of_other_data_directories_are_left_alone(
    data: DataDir, orphan: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert leftovers(DataDir(tmp_path / "other")) == []
    # A shell that merely names the data directory is not part of a run.
    environment = {**os.environ, "COMPANION_DATA_DIR": str(data.root)}
    with subprocess.Popen(SLEEP, env=environment, stdout=subprocess.PIPE) as shell:
        assert shell.pid not in {process.pid for process in leftovers(data)}
        shell.kill()


def test_down_ends_what_a_killed_run_left(data: DataDir, orphan: subprocess.Popen[bytes]) -> None:
    write_record(data, RunRecord(a_dead_pid(), 1.0, 1.0, "http://127.0.0.1:1"))
    assert stop(data) == "Stopped 1 processes of a run that was killed."
    assert stop(data) == ""


def test_only_the_group_of_the_dead_is_buried(
    data: DataDir, orphan: subprocess.Popen[bytes]
) -> None:
    end_group(a_dead_pid(), data)
    assert orphan.poll() is None
    # Its own leader is never killed: it may be a new process.
    end_group(orphan.pid, data)
    assert orphan.poll() is None


def test_the_record_is_for_programs_too(data: DataDir) -> None:
    write_record(data, RunRecord.of_this_process("http://127.0.0.1:1", {"PORT": "1"}))
    entries = json.loads((data.run / "companion.json").read_text())
    assert entries["pid"] == os.getpid()
    assert entries["url"] == "http://127.0.0.1:1"
