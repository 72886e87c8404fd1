"""Who is sent requests: whoever has what they can't do without."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import DependencyUnavailable
from shared.http import readiness
from shared.http.readiness import GoodToHave, NotReady, states_of


async def fine() -> None:
    """It answers."""


async def away() -> None:
    raise DependencyUnavailable("something")


async def hanging() -> None:
    await asyncio.sleep(60)


async def broken() -> None:
    raise RuntimeError("a bug")


async def test_what_is_good_to_have_is_told_of_and_takes_nobody_out() -> None:
    states = await states_of({"database": fine, "cache": GoodToHave(away)})
    assert states == {"database": "ok", "cache": "dependency_unavailable"}


async def test_what_is_needed_takes_a_process_out_and_is_named() -> None:
    with pytest.raises(NotReady) as refused:
        await states_of({"database": away, "vault": away, "cache": GoodToHave(away)})
    assert refused.value.message == "Waiting for database, vault."
    assert refused.value.facts["dependencies"]["database"] == "dependency_unavailable"


@pytest.mark.parametrize(
    ("check", "state"), [(hanging, "dependency_unavailable"), (broken, "check_failed")]
)
async def test_a_probe_gets_its_answer_whatever_a_check_does(
    monkeypatch: pytest.MonkeyPatch, check: readiness.Check, state: str
) -> None:
    monkeypatch.setattr(readiness, "_PATIENCE_SECONDS", 0.02)
    with pytest.raises(NotReady) as refused:
        await states_of({"database": fine, "other": check})
    assert refused.value.facts["dependencies"] == {"database": "ok", "other": state}
