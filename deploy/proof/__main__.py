"""`python -m deploy.proof [--short]`: exits with 1 when a bound is broken, 2 when it can't run."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.companion.errors import CompanionError
from deploy.companion.settings import ROOT
from deploy.proof import compose, deployment
from deploy.proof.engine import an_engine
from deploy.proof.images import DEBIAN, images_here, images_made
from deploy.proof.proof import Proof
from deploy.proof.report import document, keep

KEPT = ROOT / "docs" / "proof.md"


def main() -> None:
    given = _arguments()
    # As Ctrl-C: what was started is ended, and what was made removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        good = prove(given)
    except CompanionError as error:
        print(f"proof: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0 if good else 1)


def prove(given: argparse.Namespace) -> bool:
    """Run it on an engine; whether every bound was kept. Raises CompanionError."""
    with an_engine() as engine, _scratch() as folder:
        _tell(f"the engine at {engine.address}")
        images = images_here(engine) if given.no_build else images_made(engine, folder, _tell)
        program = compose.installed() or compose.from_debian(engine.client, DEBIAN, folder)
        made = deployment.prepare(
            engine, program, images, folder, busy=given.busy, brokers=given.brokers
        )
        made.down()  # what a run before may have left
        proof = Proof(made, _tell, short=given.short, per_second=given.rate, brokers=given.brokers)
        try:
            result = asyncio.run(proof.run())
        except CompanionError:
            _tell(_last_words(made))
            raise
        finally:
            if not given.keep:
                made.down()
        print(document(result))
        if not given.short and given.brokers == 1:
            keep(result, KEPT)
        return result.good


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="companion-proof-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _last_words(made: deployment.Deployment) -> str:
    """The ends of the logs of those who are not in order."""
    bad = {line.partition(" ")[0] for line in made.containers.unhealthy()}
    words = [
        f"--- {service}\n{made.containers.one(service).logs(tail=15).decode(errors='replace')}"
        for service in sorted(bad)
    ]
    return "\n".join(words)


_BEGAN = time.monotonic()


def _tell(line: str) -> None:
    print(f"{time.monotonic() - _BEGAN:6.1f}  {line}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.proof", description=__doc__)
    parser.add_argument("--short", action="store_true", help="three faults, nothing is kept")
    parser.add_argument("--rate", type=float, default=10.0, help="turns a second (default 10)")
    parser.add_argument(
        "--busy", action="store_true", help="the machine has other things to do: probe less often"
    )
    parser.add_argument(
        "--brokers",
        type=int,
        choices=(1, 3),
        default=1,
        help="nodes of RabbitMQ; 3: nothing is kept",
    )
    parser.add_argument("--no-build", action="store_true", help="take the images that are here")
    parser.add_argument("--keep", action="store_true", help="leave the deployment running")
    return parser.parse_args()


if __name__ == "__main__":
    main()
