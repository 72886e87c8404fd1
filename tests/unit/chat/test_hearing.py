"""What a replica hears from others it goes on hearing, whatever became of the last news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from services.chat import wiring
from services.chat.settings import Settings
from shared.limits.shedding import Shedding
from shared.model_catalogue import ModelCatalogue

KINDS = ("revocation", "sign_in", "tier", "live")


class Channel:
    """Breaks at the first try, and then brings two pieces of news."""

    def __init__(self, *news: Any) -> None:
        self._news = news
        self._tries = 0

    async def heard(self, *_running: object) -> AsyncIterator[Any]:
        self._tries += 1
        if self._tries == 1:
            raise ValueError("a bug")
        for one in self._news if self._tries == 2 else ():
            yield one
        await asyncio.Event().wait()


class Actions:
    """Each fails at its first news, and notes the second."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        self.acted: set[str] = set()
        self.all_acted = asyncio.Event()

    def act(self, kind: str, news: Any) -> None:
        self.seen[kind].append(news)
        if len(self.seen[kind]) == 1:
            raise ValueError("a bug")
        self.acted.add(kind)
        if self.acted == set(KINDS):
            self.all_acted.set()

    def on(self, kind: str) -> Callable[[Any], Any]:
        async def act(news: Any) -> None:
            self.act(kind, news)

        return act


async def forever() -> None:
    await asyncio.Event().wait()


async def nothing(*_given: object) -> None:
    """There is nothing to be done."""


async def test_what_goes_wrong_once_makes_nobody_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    actions, ended = Actions(), list[int]()
    wired = SimpleNamespace(
        actions=SimpleNamespace(
            drop_key=actions.on("revocation"),
            drop_sign_in=actions.on("sign_in"),
            hear_live_news=actions.on("live"),
            close_silent_turns=nothing,
            renew_leases=nothing,
        ),
        revocations=Channel(1, 2),
        ended_sessions=Channel(1, 2),
        living_sessions=SimpleNamespace(end=ended.append),
        sign_ins=set,
        database=None,
        shedding=Shedding(),
        admission=SimpleNamespace(tier_changed=lambda user: actions.act("tier", user)),
        running=SimpleNamespace(progress=dict, reservations=list, drained=nothing),
        withdraw=SimpleNamespace(drained=nothing),
        live=SimpleNamespace(
            sign_ins=set,
            tiers=Channel((1, "free"), (2, "pro")),
            channel=Channel(1, 2),
            devices=SimpleNamespace(look=lambda: None, tier_changed=lambda _user, _tier: None),
            log=SimpleNamespace(write=forever, read=forever, flush=nothing),
        ),
    )

    @asynccontextmanager
    async def wire(_settings: object) -> AsyncIterator[Any]:
        yield wired

    monkeypatch.setattr(wiring, "wire", wire)
    monkeypatch.setattr(wiring, "_HEAR_AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(f"{wiring.__name__}.turn_metrics.watch_running", lambda _running: None)
    overrides = {
        "openai.small": "gpt-6-luna",
        "openai.large": "gpt-of-tomorrow",
        "elevenlabs.high": "eleven_of_tomorrow",
    }
    catalogue = ModelCatalogue(overrides)
    settings = cast(
        "Settings",
        SimpleNamespace(
            hold_lease_seconds=30, drain_seconds=0, shed_after_seconds=0, catalogue=catalogue
        ),
    )

    with capture_logs() as logs:
        async with asyncio.timeout(5), wiring.wire_web(settings):
            await actions.all_acted.wait()
    unpriced = [line["model"] for line in logs if line["event"] == "model_without_price"]
    assert unpriced == ["gpt-of-tomorrow"]
    assert all(actions.seen[kind] == [1, 2] for kind in KINDS)
    assert ended == [1, 2]
