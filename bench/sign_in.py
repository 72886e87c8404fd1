"""What signing in costs beside the bare hash, and what checking a token costs: `make bench`.

Sign-ins go through the gateway to auth with the parameters of a deployment; the yardstick is Argon2
alone, with as many threads as auth uses, in the same run. Rounds alternate; medians are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from uuid import uuid4

import argon2
import httpx
from joserfc.jwk import ECKey, KeySet

from bench.load import Call, Outcome, in_flight, json_call
from shared.tokens import TokenVerifier, sign_access_token
from tests.support.suite import Suite, running_suite

_AT_ONCE = 2  # AUTH_PASSWORDS_AT_ONCE
_PASSWORD = "a lamp lights nine rooms"
_ISSUER, _AUDIENCE = "https://companion.invalid/auth", "companion"


def main() -> None:
    """Run it and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.sign_in", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sign-ins", type=int, default=100, help="a round")
    parser.add_argument("--tokens", type=int, default=2000, help="a round")
    arguments = parser.parse_args()
    print(asyncio.run(_token_checks(arguments.rounds, arguments.tokens)))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with running_suite(Path(folder), GATEWAY_SHIELD_REQUESTS_PER_SECOND="100000") as suite:
            print(asyncio.run(_sign_ins(suite, arguments.rounds, arguments.sign_ins)))


class _Held:
    version = 1

    def __init__(self, key: ECKey) -> None:
        self._keys = KeySet([key])

    async def current(self) -> KeySet:
        return self._keys

    async def refreshed_for(self, _key_id: str) -> KeySet:
        return self._keys


async def _token_checks(rounds: int, count: int) -> str:
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
    new, known = list[float](), list[float]()
    for _ in range(rounds):
        verifier = TokenVerifier(_Held(key), issuer=_ISSUER, audience=_AUDIENCE)
        tokens = [_a_token(key) for _ in range(count)]
        new.append(await _seconds_each(verifier, tokens))
        known.append(await _seconds_each(verifier, tokens))
    return _table(
        ["a token's check in a service", "µs"],
        [
            ["first sight", f"{median(new) * 1e6:.0f}"],
            ["seen before", f"{median(known) * 1e6:.1f}"],
        ],
    )


async def _seconds_each(verifier: TokenVerifier, tokens: Sequence[str]) -> float:
    began = time.perf_counter()
    for token in tokens:
        await verifier.verify(token)
    return (time.perf_counter() - began) / len(tokens)


def _a_token(key: ECKey) -> str:
    claims = {
        "iss": _ISSUER,
        "aud": _AUDIENCE,
        "sub": str(uuid4()),
        "sid": str(uuid4()),
        "jti": str(uuid4()),
        "tier": "pro",
        "role": "member",
        "org": None,
        "org_role": None,
        "scope": "account billing billing:read chat keys voice",
        "auth_time": int(time.time()),
        "amr": ["pwd"],
        "mfa": False,
    }
    return sign_access_token(key, claims, issued_at=int(time.time()), lifetime_seconds=900)


async def _sign_ins(suite: Suite, rounds: int, count: int) -> str:
    names = await _register(suite, 20)
    turn = itertools.cycle(names)
    url = f"{suite.url}/auth/login"

    def sign_in() -> Call:
        return json_call(url, {"login": next(turn), "password": _PASSWORD})

    hasher = argon2.PasswordHasher()
    hash_ = hasher.hash(_PASSWORD)
    bare, ours = list[float](), list[Outcome]()
    await in_flight(sign_in, requests=10, at_once=2)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", file=sys.stderr)
        bare.append(await asyncio.to_thread(_bare, lambda: hasher.verify(hash_, _PASSWORD), count))
        ours.append(await in_flight(sign_in, requests=count, at_once=8))
    ratio = median(o.rate / b for o, b in zip(ours, bare, strict=True))
    failed = sum(len(outcome.failures) for outcome in ours)
    p50, p99 = (median(outcome.percentile_ms(which) for outcome in ours) for which in (50, 99))
    return _table(
        ["8 sign-ins in flight", "per second", "p50 ms", "p99 ms", "failed"],
        [
            ["bare Argon2id, 64 MiB, 2 threads", f"{median(bare):.1f}", "", "", ""],
            [
                f"sign-in ({ratio:.0%} of bare)",
                f"{median(outcome.rate for outcome in ours):.1f}",
                f"{p50:.0f}",
                f"{p99:.0f}",
                str(failed),
            ],
        ],
    )


async def _register(suite: Suite, count: int) -> list[str]:
    names = [f"u{uuid4().hex[:12]}" for _ in range(count)]
    async with httpx.AsyncClient(base_url=suite.url, trust_env=False, timeout=30) as client:
        for name in names:
            body = {"email": f"{name}@example.com", "username": name, "password": _PASSWORD}
            (await client.post("/auth/register", json=body)).raise_for_status()
    return names


def _bare(verify: Callable[[], object], count: int) -> float:
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        began = time.perf_counter()
        for done in [threads.submit(verify) for _ in range(count)]:
            done.result()
        return count / (time.perf_counter() - began)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(["", *(f"| {' | '.join(line)} |" for line in lines)])


if __name__ == "__main__":
    main()
