"""Our own images: one for each service, the operators' and the simulator's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from deploy.images import engine, machine
from shared.values import dataclass

ROOT: Final = Path(__file__).parents[2]
BUILDER: Final = "companion/build:local"
LIMIT_BYTES: Final = 250_000_000

_TARGETS: Final = {"tools": "tools", "simulator": "sandbox"}
NAMES: Final = ("keyvault", "auth", "billing", "chat", "voice", "tools", "simulator")
"""keyvault comes first: its dependencies are a layer of all others, which then find it built."""


@dataclass(frozen=True, slots=True)
class Built:
    """An image and what it cost."""

    image: str
    size_bytes: int
    seconds: float

    @property
    def fits(self) -> bool:
        return self.size_bytes <= LIMIT_BYTES


def make_builder(python_image: str) -> None:
    """The image in which ours are built: Python's, with this machine's way to registries."""
    with TemporaryDirectory(prefix="builder-") as folder:
        context = machine.builder(python_image, Path(folder))
        engine.build(BUILDER, context, context / "Dockerfile")


def build(name: str, python_image: str, version: str, offline_engine: str = "") -> Built:
    started = time.monotonic()
    image = f"companion/{name}:{version}"
    arguments: Mapping[str, str] = {
        "SERVICE": name,
        "PYTHON_IMAGE": python_image,
        "BUILD_IMAGE": BUILDER,
        "OFFLINE_ENGINE": offline_engine,
    }
    engine.build(
        image,
        ROOT,
        ROOT / "deploy/Dockerfile",
        arguments=arguments,
        target=_TARGETS.get(name, "service"),
    )
    return Built(image, engine.size_bytes(image), time.monotonic() - started)


def build_all(
    names: Sequence[str], python_image: str, version: str, offline_engine: str = ""
) -> Sequence[Built]:
    """The first alone, as the rest use its layers, the others two at a time."""

    def made(name: str) -> Built:
        return build(name, python_image, version, offline_engine)

    first, *rest = sorted(names, key=NAMES.index)
    built = [made(first)]
    with ThreadPoolExecutor(2) as two:
        built += two.map(made, rest)
    return built
