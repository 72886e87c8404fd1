"""The two API versions that are alive, told apart by a header."""

from typing import Final

from tests.support.simulator.call import Call

OLD: Final = "2023-06-01"
NEW: Final = "2026-10-21"
VERSIONS: Final = frozenset({OLD, NEW})


def is_new(call: Call) -> bool:
    return call.request.headers.get("anthropic-version") == NEW


def betas_of(call: Call) -> frozenset[str]:
    named = ",".join(call.request.headers.getall("anthropic-beta", ()))
    return frozenset(beta.strip() for beta in named.split(","))
