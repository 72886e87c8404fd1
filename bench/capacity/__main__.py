"""Does a burst of one tier starve another? `python -m bench.capacity` prints the answer."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from bench.capacity.autoscaler import Rules
from bench.capacity.simulation import Run, Scenario, simulate

STEADY: Mapping[str, float] = {"free": 60.0, "pro": 40.0, "enterprise": 30.0}
OWN_POOLS = {name: (name,) for name in STEADY}
ONE_POOL = {"all": tuple(STEADY)}
ONE_POOLS_TARGET = 105.0  # in flight a replica, pro's


def main() -> None:
    """Run both designs, with more and less room in what they share."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--of", default="free", choices=sorted(STEADY), help="whose burst")
    parser.add_argument("--times", type=float, default=30, help="of its steady rate")
    parser.add_argument("--seed", type=int, default=8)
    arguments = parser.parse_args()
    print(report(arguments.of, arguments.times, arguments.seed))


def report(burst_of: str, times: float, seed: int) -> str:
    """A row for each design."""
    lines = [
        "| gateways, egresses, keyvaults | pools of chat | waited over 1 s: free / pro / enterprise"
        " | p99, s | replicas of free's pool, before and most |",
        "| --- | --- | --- | --- | --- |",
    ]
    deployed = Rules.of_shared("gateway").least
    for least, shared in (
        (0, "unlimited"),
        (deployed // 2, f"{deployed // 2} of each"),
        (deployed, f"{deployed} of each, as in deploy/k8s"),
    ):
        for name, pools in (("one for each tier", OWN_POOLS), ("one for all", ONE_POOL)):
            scenario = Scenario(STEADY, burst_of, times, seed=seed, shared_least=least)
            lines.append(_row(shared, name, simulate(scenario, pools, target=ONE_POOLS_TARGET)))
    return "\n".join(lines)


def _row(shared: str, name: str, run: Run) -> str:
    pool = run.pools.get("free") or run.pools["all"]
    late = " / ".join(f"{seen.longer_than(1000):.1%}" for seen in run.tiers.values())
    last = " / ".join(f"{seen.percentile(99) / 1000:.1f}" for seen in run.tiers.values())
    return f"| {shared} | {name} | {late} | {last} | {pool.started_with}, {pool.most} |"


if __name__ == "__main__":
    main()
