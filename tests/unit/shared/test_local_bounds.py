"""Bounds inside one replica: to the second, and nothing is kept of whoever is gone."""

from __future__ import annotations

import pytest

from shared.limits.local import LocalLimit, LocalStreams


def test_a_minute_is_one_of_the_clock_and_lasts_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    local, now = LocalLimit(), [60.0]
    monkeypatch.setattr("shared.limits.local.time.time", lambda: now[0])
    assert [local.take("ada", 2) for _ in range(3)] == [True, True, False]
    now[0] = 119.9
    assert not local.take("ada", 2)
    now[0] = 120.0
    assert local.take("ada", 2)
    assert not local.take("grace", 0)


def test_a_lease_is_over_in_the_very_moment_that_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    local, now = LocalStreams(30), [100.0]
    monkeypatch.setattr("shared.limits.local.time.monotonic", lambda: now[0])
    local.enter("ada", "1")
    now[0] = 129.9
    assert not local.has_place("ada", 1)
    now[0] = 130.0
    assert local.has_place("ada", 1)
    assert local.renew("ada", ["1"]) == []


def test_one_that_leaves_twice_or_never_came_takes_nobody_elses_place() -> None:
    local = LocalStreams(30)
    local.enter("ada", "1")
    local.enter("ada", "2")
    for gone in ("1", "1", "unknown"):
        local.leave("ada", gone)
    local.leave("grace", "1")
    assert not local.has_place("ada", 1)
    assert local.has_place("ada", 2)
    local.leave("ada", "2")
    assert local._until == {}
