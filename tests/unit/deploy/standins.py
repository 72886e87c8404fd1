"""Small programs in the place of the real ones: `python standins.py web|worker|gateway …`.

Only the standard library, so that a whole companion of them starts in a second.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Door(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        print(format % args, flush=True)


def serve(*ports: int) -> None:
    servers = [ThreadingHTTPServer(("127.0.0.1", port), Door) for port in ports]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait({signal.SIGTERM})


def work(*, with_child: bool) -> None:
    if with_child:
        subprocess.Popen([sys.executable, __file__, "sleep"])
    Path(os.environ["READY_FILE"]).touch()
    signal.sigwait({signal.SIGTERM})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("--port", type=int)
    parser.add_argument("--internal-port", type=int)
    arguments = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    match arguments.what:
        case "web":
            serve(arguments.port, arguments.internal_port)
        case "gateway":
            serve(arguments.port)
        case "worker":
            work(with_child=True)
        case "sleep":
            signal.sigwait({signal.SIGTERM})
        case "refusing":
            # A real one takes as long to come so far on a busy machine.
            time.sleep(5.5)
            print("CHAT_SETTING: it should be less than or equal to 27.", file=sys.stderr)
            sys.exit(78)
        case "broken":
            sys.exit("I was born broken")


if __name__ == "__main__":
    main()
