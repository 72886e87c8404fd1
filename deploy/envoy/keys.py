"""Wait until auth gives its keys: `python -m deploy.envoy.keys`, before a gateway starts.

Envoy says that it is ready without them too, where auth did not answer its first questions, and
refuses every token until it has them. One that runs keeps those that it has: a new one that took
its place while auth is away would shut out everybody.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Mapping

from deploy.envoy.endpoints import ConfigurationRefused, Endpoint, required
from shared.settings.refused import EXIT_CODE

_PATH = "/.well-known/jwks.json"
_PATIENCE_SECONDS = 2.0
_PAUSE_SECONDS = 1.0


def gives_keys(auth: Endpoint) -> bool:
    """Whether it has answered with some just now."""
    connection = http.client.HTTPConnection(auth.host, auth.port, timeout=_PATIENCE_SECONDS)
    try:
        connection.request("GET", _PATH)
        answer = connection.getresponse()
        return answer.status == 200 and bool(json.loads(answer.read())["keys"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return False
    finally:
        connection.close()


def main(environ: Mapping[str, str] = os.environ, *, pause_seconds: float = _PAUSE_SECONDS) -> int:
    """Return once it has, however long that takes; who waits for us has others that serve."""
    try:
        auth = required(environ, "GATEWAY_AUTH")
    except ConfigurationRefused as refused:
        print(f"configuration refused: {refused}", file=sys.stderr)
        return EXIT_CODE
    if not gives_keys(auth):
        print(f"waiting for the keys of {auth}", file=sys.stderr, flush=True)
        while not gives_keys(auth):
            time.sleep(pause_seconds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
