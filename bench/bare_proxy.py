"""The yardstick: an Envoy that does nothing but pass requests on to the simulated vendor."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

import httpx

from deploy.companion.engines.binaries import envoy_program
from deploy.companion.ports import free_port

_CONFIGURATION = Template(Path(__file__).with_name("bare_proxy.yaml").read_text())


@dataclass(frozen=True, slots=True)
class BareProxy:
    """A running pass-through."""

    url: str
    pid: int


@contextmanager
def bare_proxy(vendor_port: int) -> Iterator[BareProxy]:
    """Run it in front of the vendor on loopback, for as long as the block lasts."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bare.yaml"
        path.write_text(_CONFIGURATION.substitute(PORT=port, VENDOR_PORT=vendor_port))
        command = [str(envoy_program()), "--concurrency", "1", "--use-dynamic-base-id"]
        with subprocess.Popen(
            [*command, "--log-level", "error", "--config-path", str(path)], cwd=folder
        ) as process:
            url = f"http://127.0.0.1:{port}"
            try:
                _wait_for(url)
                yield BareProxy(url, process.pid)
            finally:
                process.terminate()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/_sim/health", timeout=1, trust_env=False).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise RuntimeError("the bare proxy does not answer")
