"""Write each service's OpenAPI document into a folder: `python -m deploy.openapi FOLDER`.

They are those that the gateway shows at `/<service>/openapi.json`; nothing has to run.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx

from deploy.companion.console_settings import settings_of_deployment
from deploy.companion.deployment import Deployment, Hosts
from deploy.companion.programs import SERVICES


def write(folder: Path) -> list[Path]:
    """One file for each service; what is there is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory() as scratch:
        # A process is built with secrets, which its document has nothing of.
        secrets = Path(scratch, "secrets")
        Deployment(secrets).create(Hosts())
        for service in SERVICES:
            path = folder / f"{service}.json"
            path.write_text(json.dumps(document_of(service, secrets), indent=2) + "\n", "utf-8")
            written.append(path)
    return written


def document_of(service: str, secrets: Path) -> Any:
    """What the service's public port says of itself."""
    kind = import_module(f"services.{service}.settings").Settings
    settings = settings_of_deployment(service, kind, secrets)
    settings = settings.model_copy(update={"log_level": "error"})
    process = import_module(f"services.{service}.app").create_app(settings)
    return asyncio.run(_asked(process.public, "/openapi.json"))


async def _asked(app: Any, path: str) -> Any:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        answer = await client.get(path)
    return answer.raise_for_status().json()


def main(arguments: Sequence[str]) -> int:
    """Write them, and say where they are."""
    if len(arguments) != 1:
        print("usage: python -m deploy.openapi FOLDER", file=sys.stderr)
        return 2
    for path in write(Path(arguments[0])):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
