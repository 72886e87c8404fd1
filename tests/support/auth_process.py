"""auth as a process of its own, for what can only be measured from outside."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deploy.companion.ports import free_port
from tests.support.auth import write_signing_keys
from tests.support.engines import Child
from tests.support.tokens import write_identities

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class AuthProcess:
    """Where it answers, and its process."""

    url: str
    internal_url: str
    pid: int
    signing_keys: Path


@contextmanager
def auth_process(
    database_url: str, cache_url: str, directory: Path, **environment: str
) -> Iterator[AuthProcess]:
    """Run it with the parameters of a deployment; `environment` replaces some."""
    port = free_port()
    internal_port = free_port(avoid={port})
    url, internal_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{internal_port}"
    identities = write_identities(directory / "identities")
    signing_keys = write_signing_keys(directory)
    settings = {
        "DATABASE_URL": database_url,
        "CACHE_URL": cache_url,
        "BROKER_URL": cache_url,
        "JWKS_URL": f"{url}/.well-known/jwks.json",
        "IDENTITY_KEY_FILE": str(identities["auth"]),
        "IDENTITY_TRUST_FILE": str(directory / "identities" / "trusted.json"),
        "AUTH_SIGNING_KEYS_FILE": str(signing_keys),
        "LOG_LEVEL": "warning",
        # All tests call from one address.
        "AUTH_REGISTRATIONS_NETWORK": "1000000",
        "AUTH_RESETS_NETWORK": "1000000",
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(_ROOT),
        **environment,
    }
    words = [sys.executable, "-m", "shared.http.serve", "services.auth.app"]
    words += ["--port", str(port), "--internal-port", str(internal_port)]
    child = Child(words, log=directory / "auth.log", environment=settings)
    try:
        child.wait_until(lambda: _is_ready(internal_url), seconds=120)
        yield AuthProcess(url, internal_url, child.pid, signing_keys)
    finally:
        child.stop()


def _is_ready(internal_url: str) -> bool:
    try:
        return httpx.get(f"{internal_url}/readyz", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False
