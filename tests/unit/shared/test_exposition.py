"""What a process without a port of its own shows of itself: alone, and for its children."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import Counter

from shared.telemetry import exposition
from shared.telemetry.exposition import SHARED_DIRECTORY, expose_metrics

COUNTED = Counter("exposed_by_a_test", "Of this test.")

# A parent that counts, a child that counted and ended, and one that was killed.
FAMILY = """
import os, signal, sys, time, urllib.request
from prometheus_client import Counter, Gauge
from shared.telemetry.exposition import expose_metrics

counted = Counter("counted", "Events.", ["type"])
living = Gauge("living", "Children.", ["service"], multiprocess_mode="livesum")
server = expose_metrics("127.0.0.1", int(sys.argv[1]))
# Without children the number is 0, and not absent: an alarm looks at it.
living.labels("billing").set(0)
children = []
for last_word in ("end", "wait"):
    child = os.fork()
    if child == 0:
        counted.labels("usage").inc(2)
        living.labels("billing").set(1)
        if last_word == "wait":
            signal.pause()
        os._exit(0)
    children.append(child)
os.waitpid(children[0], 0)
counted.labels("usage").inc(1)

def page():
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
        return answer.read().decode()

while "counted_total{type=\\"usage\\"} 5.0" not in page():
    time.sleep(0.01)
print("one lives:", 'living{service="billing"} 1.0' in page())
os.kill(children[1], signal.SIGKILL)
os.waitpid(children[1], 0)
after = page()
print("none lives:", 'living{service="billing"} 0.0' in after)
print("all counted:", 'counted_total{type="usage"} 5.0' in after)
print("the parent's own:", "process_resident_memory_bytes" in after)
"""

# A parent that rests, a child that works and holds memory, and one that has worked and ended.
BUSY = """
import os, signal, sys, time, urllib.request
from shared.telemetry.exposition import expose_metrics

server = expose_metrics("127.0.0.1", int(sys.argv[1]))

def read(name):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    (line,) = [line for line in lines if line.startswith(name + " ")]
    return float(line.split()[1])

def work(seconds):
    while time.process_time() < began + seconds:
        pass

children, ready = [], os.pipe()
before, memory = read("process_cpu_seconds_total"), read("process_resident_memory_bytes")
for last_word in ("end", "wait"):
    child = os.fork()
    if child == 0:
        began = time.process_time()
        held = bytearray(64 << 20) if last_word == "wait" else None
        work(0.5)
        os.write(ready[1], b".")
        if last_word == "wait":
            signal.pause()
        os._exit(0)
    children.append(child)
os.waitpid(children[0], 0)
os.read(ready[0], 1), os.read(ready[0], 1)
both = read("process_cpu_seconds_total")
print("works:", both - before > 0.9)
print("holds:", read("process_resident_memory_bytes") - memory > 60 << 20)
os.kill(children[1], signal.SIGKILL)
os.waitpid(children[1], 0)
print("never falls:", read("process_cpu_seconds_total") >= both)
print("let go:", read("process_resident_memory_bytes") - memory < 30 << 20)
"""


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def test_a_process_shows_what_it_counted(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.delenv(SHARED_DIRECTORY, raising=False)
    server = expose_metrics("127.0.0.1", free_port)
    assert server is not None
    try:
        COUNTED.inc(3)
        assert "exposed_by_a_test_total 3.0" in _get(f"http://127.0.0.1:{free_port}/metrics")
        with pytest.raises(urllib.error.HTTPError) as refused:
            _get(f"http://127.0.0.1:{free_port}/secrets")
        assert refused.value.code == 404
        refused.value.close()
    finally:
        server.server_close()


def test_nowhere_is_nowhere() -> None:
    assert expose_metrics("127.0.0.1", 0) is None


@pytest.mark.parametrize("family", [FAMILY, BUSY], ids=["counted", "used"])
def test_a_parent_shows_what_its_children_did(tmp_path: Path, free_port: int, family: str) -> None:
    environment = {**os.environ, SHARED_DIRECTORY: str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", family, str(free_port)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(": ") for line in done.stdout.splitlines())
    assert set(said.values()) == {"True"}, said


def test_a_child_that_begins_just_now_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED_DIRECTORY, str(tmp_path))
    begun = tmp_path / "counter_7.db"
    begun.touch()
    pauses = []

    def written(seconds: float) -> None:
        pauses.append(seconds)
        begun.write_bytes(bytes(64))

    monkeypatch.setattr(time, "sleep", written)
    assert "process_resident_memory_bytes" in exposition.shared_metrics().decode()
    assert len(pauses) == 1
