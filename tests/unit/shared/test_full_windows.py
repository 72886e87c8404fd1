"""Which refusals are remembered, and for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from shared.limits.admission import Admission, WindowState, streams_at_once
from shared.limits.full_windows import FullWindows
from shared.limits.windows import Window, minute_window, spend_window

NOW = datetime(2030, 5, 17, 12, 30, 30, tzinfo=UTC)
MINUTE = minute_window("openai.requests_per_minute", 5, NOW)


def refused(
    *, used: int = 5, running: int | None = 0, window: Window = MINUTE, by_streams: bool = False
) -> Admission:
    full = WindowState(window, used)
    streams = [] if running is None else [WindowState(streams_at_once(5, NOW), running)]
    return Admission("r", (full, *streams), streams[0] if by_streams else full)


def remembered(refusal: Admission, *, seconds_later: float = 0, at: datetime = NOW) -> bool:
    now = 1000.0
    full = FullWindows(monotonic=lambda: now)
    full.remember("ada", "openai", "free", refusal)
    now += seconds_later
    return full.known("ada", "openai", "free", at) is not None


def test_a_full_window_is_known_while_nothing_can_make_room_in_it() -> None:
    assert remembered(refused())
    assert remembered(refused(), seconds_later=4.9)


def test_it_is_asked_anew_after_a_moment_and_in_the_next_window() -> None:
    assert not remembered(refused(), seconds_later=5)
    full = FullWindows()
    full.remember("ada", "openai", "free", refused())
    assert full.known("ada", "openai", "free", NOW.replace(second=59))
    assert not full.known("ada", "openai", "free", MINUTE.ends_at)


def test_a_clock_that_is_set_back_makes_the_moment_no_longer() -> None:
    earlier = NOW - timedelta(hours=1)
    assert remembered(refused(), seconds_later=4.9, at=earlier)
    assert not remembered(refused(), seconds_later=5, at=earlier)


def test_what_may_change_before_its_end_is_not_kept() -> None:
    tokens = minute_window("openai.tokens_per_minute", 100, NOW, 60)
    assert not remembered(refused(running=1)), "what runs may yet give back"
    assert not remembered(refused(running=None)), "nobody knows what runs"
    assert not remembered(refused(used=60, window=tokens)), "less may fit"
    assert not remembered(refused(running=5, by_streams=True)), "one may end at any moment"
    assert not remembered(refused(window=spend_window("monthly_spend", 5, NOW, 1)))
    assert not remembered(replace(refused(), refused=None))


def test_it_holds_for_one_subject_vendor_and_tier() -> None:
    full = FullWindows()
    full.remember("ada", "openai", "free", refused())
    assert full.known("grace", "openai", "free", NOW) is None
    assert full.known("ada", "compatible", "free", NOW) is None
    assert full.known("ada", "openai", "pro", NOW) is None
    full.forget("ada")
    assert full.known("ada", "openai", "free", NOW) is None


def test_its_memory_is_bounded() -> None:
    full = FullWindows(most=2)
    for subject in ("ada", "grace", "ada", "mary"):
        full.remember(subject, "openai", "free", refused())
    assert [bool(full.known(s, "openai", "free", NOW)) for s in ("ada", "grace", "mary")] == [
        True,
        False,
        True,
    ]
