"""A gateway in Kubernetes starts when auth gives its keys, and not before."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deploy.envoy import keys
from deploy.envoy.endpoints import Endpoint
from deploy.k8s import proxies
from deploy.k8s.processes import EGRESS, GATEWAY
from shared.settings.refused import EXIT_CODE

GOOD = (200, b'{"keys": [{"kid": "a"}]}')


@contextmanager
def auth(*answers: tuple[int, bytes]) -> Iterator[tuple[Endpoint, list[str]]]:
    """One that answers so, and goes on with the last of it."""
    left, asked = list(answers), list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield Endpoint("127.0.0.1", server.server_port), asked
        finally:
            server.shutdown()
            serving.join()


def test_it_waits_until_there_are_keys(capsys: pytest.CaptureFixture[str]) -> None:
    bad = [(503, GOOD[1]), (200, b"{}"), (200, b"none"), (200, b"[]"), (200, b'{"keys": []}')]
    with auth(*bad, GOOD) as (endpoint, asked):
        assert keys.main({"GATEWAY_AUTH": str(endpoint)}, pause_seconds=0) == 0
    assert asked == ["/.well-known/jwks.json"] * (len(bad) + 1)
    reasons = ("it answers 503", "its answer holds none", "it has none")
    told = [f"waiting for the keys of {endpoint}: {reason}" for reason in reasons]
    assert capsys.readouterr().err.splitlines() == told, "each reason once, and when it changes"


def test_it_says_nothing_and_waits_for_nothing_where_there_are_some(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with auth(GOOD) as (endpoint, asked):
        assert keys.main({"GATEWAY_AUTH": str(endpoint)}) == 0
    assert (len(asked), capsys.readouterr().err) == (1, "")


def test_nobody_there_gives_no_keys() -> None:
    with auth(GOOD) as (endpoint, _):
        pass
    assert "refused" in keys.lacking(endpoint)


def test_one_that_does_not_answer_gives_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_PATIENCE_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert keys.lacking(Endpoint("127.0.0.1", silent.getsockname()[1])) == "timed out"


def test_it_ends_when_it_is_told_to_also_as_the_first_process_of_a_container() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        silent.listen()
        with subprocess.Popen(
            [sys.executable, "-m", "deploy.envoy.keys"],
            env={**os.environ, "GATEWAY_AUTH": address},
            stderr=subprocess.PIPE,
        ) as process:
            silent.accept()[0].close()
            process.send_signal(signal.SIGTERM)
            # By a handler of its own: what a signal does by itself, it does not do to such a one.
            assert process.wait(10) == 128 + signal.SIGTERM


def test_without_an_address_it_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert keys.main({}) == EXIT_CODE
    assert "GATEWAY_AUTH" in capsys.readouterr().err


def test_a_gateway_waits_for_them_after_its_configuration_and_an_egress_does_not() -> None:
    steps = [step["name"] for step in proxies.before(GATEWAY)]
    assert steps == ["render", "keys"]
    assert [step["name"] for step in proxies.before(EGRESS)] == ["render"]
