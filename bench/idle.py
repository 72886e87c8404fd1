"""What the suite costs while nobody asks anything: `python -m bench.idle`.

CPU time a second of each process with all its children, PostgreSQL and Valkey included, after a
while in which everything comes to rest.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.processes import Meter
from tests.support.suite import running_suite


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("--settle", type=float, default=60, help="seconds until it is at rest")
    parser.add_argument("--seconds", type=float, default=60, help="how long to measure")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        with running_suite(Path(folder)) as suite:
            print("coming to rest ...", file=sys.stderr)
            time.sleep(arguments.settle)
            meter = Meter({row.name: row.pid for row in suite.running.processes() if row.pid})
            began_at = time.monotonic()
            time.sleep(arguments.seconds)
            print(report(meter.spent(), time.monotonic() - began_at))


def report(spent: Mapping[str, float], seconds: float) -> str:
    """The costliest process first, and the sum."""
    lines = ["| process | CPU-ms a second |", "|---|---|"]
    for name, cpu in sorted(spent.items(), key=lambda one: -one[1]):
        lines.append(f"| {name} | {cpu * 1000 / seconds:.1f} |")
    lines.append(f"| all | {sum(spent.values()) * 1000 / seconds:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
