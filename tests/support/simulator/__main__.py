"""`python -m tests.support.simulator --port 0`"""

import argparse

import uvloop

from tests.support.simulator.options import Options, checked
from tests.support.simulator.server import serve


def main() -> None:
    given = _arguments()
    uvloop.run(serve(given.host, given.port, _defaults(given)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    parser.add_argument("--chunk-delay-ms", type=int, default=0)
    parser.add_argument("--first-byte-delay-ms", type=int, default=0)
    parser.add_argument("--chunks", type=int, default=0, help="0 streams word by word")
    return parser.parse_args()


def _defaults(given: argparse.Namespace) -> Options:
    pace = {name: getattr(given, name) for name in _PACE}
    return checked({name: value for name, value in pace.items() if value})


_PACE = ("chunk_delay_ms", "first_byte_delay_ms", "chunks")

if __name__ == "__main__":
    main()
