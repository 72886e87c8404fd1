"""A gateway in Kubernetes starts when auth gives its keys, and not before."""

from __future__ import annotations

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
    bad = [(503, GOOD[1]), (200, b"{}"), (200, b'{"keys": []}'), (200, b"none"), (200, b"[]")]
    with auth(*bad, GOOD) as (endpoint, asked):
        assert keys.main({"GATEWAY_AUTH": str(endpoint)}, pause_seconds=0) == 0
    assert asked == ["/.well-known/jwks.json"] * (len(bad) + 1)
    assert capsys.readouterr().err == f"waiting for the keys of {endpoint}\n"


def test_it_says_nothing_and_waits_for_nothing_where_there_are_some(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with auth(GOOD) as (endpoint, asked):
        assert keys.main({"GATEWAY_AUTH": str(endpoint)}) == 0
    assert (len(asked), capsys.readouterr().err) == (1, "")


def test_nobody_there_gives_no_keys() -> None:
    with auth(GOOD) as (endpoint, _):
        pass
    assert not keys.gives_keys(endpoint)


def test_without_an_address_it_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert keys.main({}) == EXIT_CODE
    assert "GATEWAY_AUTH" in capsys.readouterr().err


def test_a_gateway_waits_for_them_after_its_configuration_and_an_egress_does_not() -> None:
    steps = [step["name"] for step in proxies.before(GATEWAY)]
    assert steps == ["render", "keys"]
    assert [step["name"] for step in proxies.before(EGRESS)] == ["render"]
