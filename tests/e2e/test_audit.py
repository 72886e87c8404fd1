"""The audit trail as operators of a running suite meet it."""

from __future__ import annotations

import asyncio
import json
import re
from subprocess import CompletedProcess

import httpx
import pytest

from tests.support.suite import Person, Suite, eventually

pytestmark = pytest.mark.e2e


async def audit(suite: Suite, *words: str) -> CompletedProcess[str]:
    return await asyncio.to_thread(suite.command, "auth", "audit", *words)


async def test_what_happens_is_linked_verified_listed_and_measured(
    suite: Suite, ada: Person
) -> None:
    async def waiting() -> int:
        return int(suite.rows("auth", "select count(*) from audit_unlinked")[0][0])

    await eventually(waiting, lambda count: count == 0, seconds=30)
    verified = await audit(suite, "verify")
    assert verified.returncode == 0, verified.stderr
    found = re.search(r"^head (\d+:[0-9a-f]{64})$", verified.stdout, re.MULTILINE)
    assert found, verified.stdout
    length = int(found[1].partition(":")[0])
    # The same was logged as it was made, and logs leave the machine.
    assert found[1] in suite.log("auth-worker")

    cut, listed = await asyncio.gather(
        audit(suite, "verify", "--head", f"{length + 10_000}:{'0' * 64}"),
        audit(suite, "list", "--user", ada.id),
    )
    assert cut.returncode == 1
    assert "The end is cut off" in cut.stderr
    entries = [json.loads(line) for line in listed.stdout.splitlines()]
    assert {entry["user"] for entry in entries} == {ada.id}
    assert "sign_in.begun" in {entry["action"] for entry in entries}

    async def measured() -> float:
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"{suite.internal_url('auth')}/metrics")).text
        match = re.search(r"^companion_auth_audit_chain_length (\S+)$", text, re.MULTILINE)
        return float(match[1]) if match else 0.0

    await eventually(measured, lambda links: links >= length, seconds=30)
