"""How containers and the embedded default are compared."""

from __future__ import annotations

import pytest

from bench.deployment import Side, beyond_rest, by_part, costs, part_of, quotients, verdict
from bench.load import Outcome


def side(*rates: float, rest: float, turn: float) -> Side:
    """So many turns a second in each round, CPU-ms a second at rest and CPU-ms that a turn adds."""
    outcomes = [Outcome(1.0, [0.01] * int(rate)) for rate in rates]
    found = [{"chat": turn}] * len(rates)
    return Side(lambda: None, lambda: dict, outcomes, found, {"chat": rest})  # type: ignore[arg-type, return-value]


def test_what_does_the_same_work_is_one_part() -> None:
    assert {part_of(name) for name in ("chat", "chat-free", "chat-pro")} == {"chat"}
    background = ("relay", "chat-relay", "billing-worker-pro", "billing-worker", "auth-beat")
    assert {part_of(name) for name in background} == {"relays, workers, clocks"}
    assert part_of("voice-pro") == part_of("billing") == "auth, voice, billing"
    assert [part_of(name) for name in ("keyvault", "gateway")] == ["keyvault", "gateway"]
    assert by_part({"chat-free": 0.1, "chat-pro": 0.3}, per=100) == {"chat": pytest.approx(4)}


def test_what_would_have_been_used_anyway_is_no_turns() -> None:
    assert beyond_rest({"chat": 3.0, "new": 1.0}, {"chat": 50.0}, 0.02) == {"chat": 2.0, "new": 1.0}


def test_rounds_are_compared_one_by_one_and_held_against_the_bound() -> None:
    sides = {
        "embedded": side(100, 200, 100, rest=0, turn=2.0),
        "containers": side(80, 100, 90, rest=0, turn=4.0),
    }
    assert sorted(quotients(sides)) == [0.5, 0.8, 0.9]
    said = verdict(sides, 0.85)
    assert "80%" in said[0] and "50% to 90%" in said[0] and "broken" in said[0]
    assert "kept" in verdict(sides, 0.8)[0]
    assert said[1].endswith("50%.")  # a turn adds twice as much
    assert costs(sides)[2] == "| chat | 2.000 | 4.000 | 0.0 | 0.0 |"


def test_a_neighbour_that_uses_the_processors_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    sides = {
        "embedded": side(75, rest=0, turn=1.0),  # beside containers that use half a processor
        "containers": side(75, rest=500, turn=1.0),
    }
    assert "by what that uses: 75%" in verdict(sides, 0.85)[1]
