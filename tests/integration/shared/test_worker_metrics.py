"""What a real worker shows of its children: what they handled, that they live, and after a kill."""

from __future__ import annotations

import os
import re
import signal
import socket
import urllib.request
from pathlib import Path

from tests.integration.shared.conftest import SHORT_WAITS
from tests.support.event_service.world import Herald, Scribe, a_usage, eventually

# Nobody else has a worker for this tier's queue.
TIER = "pro"


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _sample(page: str, pattern: str) -> float:
    found = re.search(rf"^{pattern} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_a_worker_shows_what_its_children_did(
    herald: Herald, scribe: Scribe, tmp_path: Path
) -> None:
    port = a_free_port()
    environment = {
        "METRICS_HOST": "127.0.0.1",
        "METRICS_PORT": str(port),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
    }
    worker = scribe.start_worker(TIER, environment=environment, transport_options=SHORT_WAITS)
    try:
        worker.wait_until_ready()

        def page() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())

        def handled() -> float:
            return _sample(page(), r'companion_events_handled_total\{[^}]*type="usage.recorded"\}')

        def children() -> float:
            return _sample(page(), r"companion_worker_children\{[^}]*\}")

        herald.publish([a_usage() for _ in range(3)], tier=TIER)
        herald.drain()
        # Or more: what a test before left, and what came twice, counts as well.
        eventually(lambda: handled() >= 3, "three events were handled")
        shown = page()
        assert _sample(shown, r'companion_event_age_seconds_count\{[^}]*tier="pro"[^}]*\}') >= 1
        assert children() == 1
        # Another child takes its place, and what the first one counted stays.
        counting = {int(file.stem.rpartition("_")[2]) for file in tmp_path.glob("gauge_livesum_*")}
        (child,) = counting - {worker.process_id}
        before = handled()
        os.kill(child, signal.SIGKILL)
        herald.publish([a_usage() for _ in range(2)], tier=TIER)
        herald.drain()
        eventually(lambda: handled() >= before + 2, "the others were handled, too")
        assert children() == 1
    finally:
        worker.kill()
