"""The images that others make: official ones where they can be pulled, stand-ins where not.

A stand-in speaks the official image's contract as far as docker-compose.yml uses it, and has a name
of its own: nobody can take it for the official one. It is for trying and for tests alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from deploy.images import debian, engine
from shared.values import dataclass

HERE: Final = Path(__file__).parent
BASE: Final = "companion/stand-in/debian:trixie"
_PULL_SECONDS: Final = 120.0
_FIRST_PULL_SECONDS: Final = 15.0
"""How long the first pull may take to say that there is no registry: it is the smallest image."""


@dataclass(frozen=True, slots=True)
class Outside:
    """An image of others, the variable by which it is chosen, and who stands in for it."""

    variable: str
    official: str
    stand_in: str
    optional: bool = False

    @property
    def name(self) -> str:
        return self.stand_in.removeprefix("companion/stand-in/").partition(":")[0]


PYTHON: Final = Outside("PYTHON_IMAGE", "python:3.13-slim-trixie", "companion/stand-in/python:3.13")
IMAGES: Final = (
    PYTHON,
    Outside("POSTGRES_IMAGE", "postgres:18", "companion/stand-in/postgres:17"),
    Outside("VALKEY_IMAGE", "valkey/valkey:9", "companion/stand-in/valkey:8.1"),
    Outside("RABBITMQ_IMAGE", "rabbitmq:4.1-management", "companion/stand-in/rabbitmq:4.0"),
    Outside("ENVOY_IMAGE", "envoyproxy/envoy:v1.40-latest", "companion/stand-in/envoy:1.40"),
    Outside("PROMETHEUS_IMAGE", "prom/prometheus:v3.5.0", "companion/stand-in/prometheus:2"),
    Outside("NODE_IMAGE", "node:24-trixie-slim", "companion/stand-in/node:20", optional=True),
)
"""The names are docker-compose.yml's. Grafana is in no Debian: without a registry it is missing."""


def official(images: Iterable[Outside]) -> Mapping[str, str] | None:
    """The official images, pulled; None where that isn't possible here."""
    wanted = list(images)
    if not _here_or_pulled(PYTHON.official, _FIRST_PULL_SECONDS):
        return None
    with ThreadPoolExecutor(3) as several:
        there = several.map(lambda one: _here_or_pulled(one.official, _PULL_SECONDS), wanted)
        return {one.variable: one.official for one in wanted} if all(there) else None


def _here_or_pulled(image: str, seconds: float) -> bool:
    return engine.exists(image) or engine.pull(image, seconds=seconds)


def make_base(*, anew: bool) -> None:
    if anew or not engine.exists(BASE):
        debian.make(BASE)


def make_stand_in(one: Outside) -> None:
    """Build a stand-in; its base must be there. Raises ImageError."""
    folder = HERE / one.name
    engine.build(
        one.stand_in, _context(one, folder), folder / "Dockerfile", arguments={"BASE": BASE}
    )


def _context(one: Outside, folder: Path) -> Path:
    if one.name != "envoy":
        return folder
    from deploy.companion.engines.binaries import envoy_program

    return envoy_program().parent
