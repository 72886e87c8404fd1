"""`python -m deploy.images`: every image of docker-compose.yml, pulled or made here, with sizes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.images import engine, outside, product
from deploy.images.engine import ImageError
from deploy.images.outside import IMAGES, PYTHON
from deploy.images.product import Built
from deploy.images.recipe.own import WITH_ENGINE

ENGINES = [engine for engine in WITH_ENGINE if engine]


def main() -> int:
    given = _arguments()
    started = time.monotonic()
    try:
        engine.check()
        with engine.alone():
            chosen, built = prepare(given)
    except ImageError as error:
        print(error, file=sys.stderr)
        return 1
    for line in (*table(built), *variables(chosen)):
        print(line)
    if given.env:
        given.env.write_text("".join(f"{line}\n" for line in variables(chosen)), "utf-8")
    print(f"All that in {time.monotonic() - started:.0f} s.")
    too_large = [one.image for one in built if not one.fits]
    if too_large:
        print(
            f"Larger than {product.LIMIT_BYTES / 1e6:.0f} MB: {', '.join(too_large)}",
            file=sys.stderr,
        )
    return 1 if too_large else 0


def prepare(given: argparse.Namespace) -> tuple[Mapping[str, str], Sequence[Built]]:
    """What others make, then ours; stand-ins and ours are made beside each other."""
    wanted = [one for one in IMAGES if not one.optional or given.legacy]
    if not given.offline and (pulled := outside.official(wanted)):
        return pulled, _ours(given, pulled[PYTHON.variable])
    outside.make_base(anew=given.anew)
    with ThreadPoolExecutor(2) as beside:
        others = beside.submit(_stand_ins, [one for one in wanted if one is not PYTHON])
        outside.make_stand_in(PYTHON)
        built = _ours(given, PYTHON.stand_in)
        others.result()
    return {one.variable: one.stand_in for one in wanted}, built


def _ours(given: argparse.Namespace, python_image: str) -> Sequence[Built]:
    product.make_builder(python_image)
    names = given.names or product.NAMES
    return product.build_all(names, python_image, given.version, given.offline_engine)


def _stand_ins(images: Sequence[outside.Outside]) -> None:
    for one in images:
        outside.make_stand_in(one)


def table(built: Sequence[Built]) -> Sequence[str]:
    head = f"{'image':<28}{'MB':>6}{'built in s':>12}"
    return (
        head,
        *(f"{one.image:<28}{one.size_bytes / 1e6:>6.0f}{one.seconds:>12.0f}" for one in built),
    )


def variables(chosen: Mapping[str, str]) -> Sequence[str]:
    """Lines for `docker compose --env-file`, so that compose uses what is here."""
    return [f"{name}={image}" for name, image in chosen.items()]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.images", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"only these of {', '.join(product.NAMES)}")
    parser.add_argument("--offline", action="store_true", help="don't try to pull")
    parser.add_argument("--anew", action="store_true", help="make Debian anew, for its updates")
    parser.add_argument("--legacy", action="store_true", help="with Node, for the older service")
    parser.add_argument(
        "--offline-engine", choices=ENGINES, default="", help="that voice's image is to hold"
    )
    parser.add_argument("--version", default="dev", help="the tag")
    parser.add_argument("--env", type=Path, help="write which images there are into this file")
    given = parser.parse_args()
    if unknown := set(given.names) - set(product.NAMES):
        parser.error(f"no such image: {', '.join(sorted(unknown))}")
    return given


if __name__ == "__main__":
    sys.exit(main())
