"""Turns a second in containers against the embedded default: `python -m bench.deployment`.

Both run at once on this machine and are asked in turn: the compose file with its pools, RabbitMQ
and networks, and the processes of the Procfile. Needs a Docker engine with the images of
`python -m deploy.images`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.load import NextCall, Outcome, in_flight, json_call
from bench.people import Chatter, chatters, chatters_at
from deploy.proof import compose, deployment
from deploy.proof.engine import an_engine
from deploy.proof.images import DEBIAN, images_here
from tests.support.suite import running_suite

TIER = "enterprise"
USERS = 200  # of whom each may ask a hundred times a minute
_PATIENCE_SECONDS = 600.0


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.deployment", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1_500, help="a round of each")
    parser.add_argument("--at-once", type=int, default=16)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, an_engine() as engine:
        folder = Path(name)
        os.chmod(folder, 0o755)
        program = compose.installed() or compose.from_debian(engine.client, DEBIAN, folder)
        made = deployment.prepare(engine, program, images_here(engine), folder)
        made.down()
        try:
            made.up(seconds=_PATIENCE_SECONDS)
            keys = folder / "secrets" / "auth" / "signing_keys.json"
            suite_folder = folder / "embedded"
            suite_folder.mkdir(mode=0o755)
            shield = {"GATEWAY_SHIELD_REQUESTS_PER_SECOND": "100000"}
            with running_suite(suite_folder, LOG_LEVEL="warning", **shield) as suite:
                embedded = asyncio.run(chatters(suite, TIER, USERS))
                deployed = asyncio.run(chatters_at(made.url, keys, TIER, USERS))
                asyncio.run(_measure({"embedded": embedded, "containers": deployed}, given))
        finally:
            made.down()


async def _measure(asked: dict[str, list[Chatter]], given: argparse.Namespace) -> None:
    found: dict[str, list[Outcome]] = {name: [] for name in asked}
    turns = {name: _turns(people) for name, people in asked.items()}
    for number in range(given.rounds + 1):
        print(f"round {number} of {given.rounds} ...", file=sys.stderr)
        for name, ask in turns.items():
            outcome = await in_flight(ask, requests=given.requests, at_once=given.at_once)
            if number:  # the first one warms up
                found[name].append(outcome)
    print("| | turns/s | slowest round | p99 ms | failed |\n| --- | --- | --- | --- | --- |")
    for name, outcomes in found.items():
        rates = [outcome.rate for outcome in outcomes]
        p99 = median(outcome.percentile_ms(99) for outcome in outcomes)
        failed = sum(len(outcome.failures) for outcome in outcomes)
        print(f"| {name} | {median(rates):.0f} | {min(rates):.0f} | {p99:.0f} | {failed} |")
    ours, bare = (median(o.rate for o in found[n]) for n in ("containers", "embedded"))
    print(f"\nIn containers {ours / bare:.0%} of the embedded default's.")


def _turns(people: Sequence[Chatter]) -> NextCall:
    turn = itertools.cycle(people)

    def make() -> object:
        person = next(turn)
        return json_call(person.url, {"content": "bench"}, person.token)

    return make  # type: ignore[return-value]


if __name__ == "__main__":
    main()
