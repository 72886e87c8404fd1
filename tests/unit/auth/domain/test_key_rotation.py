"""Signing keys follow each other so that no token meets a verifier that can't check it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.auth.domain.key_rotation import (
    KeyLine,
    NoSuchSigningKey,
    RotationPace,
    StandbyTooYoung,
)
from services.auth.domain.signing_key import KeyState, SigningKey

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PACE = RotationPace(published_first=timedelta(minutes=5), kept=timedelta(minutes=20))
SHOWN, KEPT = PACE.published_first, PACE.kept


def states(line: KeyLine) -> list[str]:
    return [key.state.value for key in line.keys]


def shown(line: KeyLine, at: datetime) -> set[str]:
    return {key.kid for key in line.keys if key.is_published(at, kept=KEPT)}


def kid(key: SigningKey | None) -> str:
    assert key is not None
    return key.kid


def test_a_new_line_can_rotate_at_once_since_both_keys_were_shown_together() -> None:
    line = KeyLine.new(NOON)
    rotated = line.rotated(NOON, PACE)
    assert states(rotated) == ["retiring", "active", "standby"]
    assert rotated.active.kid == kid(line.standby)
    assert rotated.keys[0].retired_at == rotated.active.activated_at == NOON
    assert shown(line, NOON) < shown(rotated, NOON)


def test_the_next_key_waits_until_it_has_been_shown_long_enough() -> None:
    line = KeyLine.new(NOON).rotated(NOON, PACE)
    standby = line.standby
    assert standby is not None
    assert standby.published_at is not None
    ready_at = standby.published_at + SHOWN
    for early in (NOON, ready_at - SECOND):
        with pytest.raises(StandbyTooYoung) as refusal:
            line.rotated(early, PACE)
        assert (refusal.value.kid, refusal.value.ready_at) == (standby.kid, ready_at)
    assert line.rotated(ready_at, PACE).active.kid == standby.kid


def test_a_line_of_a_single_key_gets_a_standby_whose_time_then_begins() -> None:
    line = KeyLine((SigningKey.made(NOON).activated(NOON),))
    later = NOON + timedelta(days=90)
    with pytest.raises(StandbyTooYoung) as refusal:
        line.rotated(later, PACE)
    assert refusal.value.ready_at == later + SHOWN
    tidied = line.tidied(later, PACE)
    assert states(tidied) == ["active", "standby"]
    assert states(tidied.rotated(later + SHOWN, PACE)) == ["retiring", "active", "standby"]


def test_what_nobody_has_dated_counts_from_now() -> None:
    """A file that was made by hand, or by an earlier version."""
    keys = [SigningKey(SigningKey.made(NOON).pair, state) for state in KeyState]
    line = KeyLine(tuple(keys)).tidied(NOON, PACE)
    assert [key.since for key in line.keys if key.state is not KeyState.ACTIVE] == [NOON] * 3
    with pytest.raises(StandbyTooYoung):
        line.rotated(NOON + SHOWN - SECOND, PACE)
    assert line.rotated(NOON + SHOWN, PACE).active.kid == keys[0].kid


def test_a_retired_key_is_shown_until_its_last_token_is_over_and_then_leaves_the_file() -> None:
    first = KeyLine.new(NOON)
    line = first.rotated(NOON, PACE)
    assert first.active.kid in shown(line, NOON + KEPT - SECOND)
    assert first.active.kid not in shown(line, NOON + KEPT)
    assert first.active.kid in {key.kid for key in line.tidied(NOON + KEPT - SECOND, PACE).keys}
    assert first.active.kid not in {key.kid for key in line.tidied(NOON + KEPT, PACE).keys}


def test_years_of_rotation_keep_one_active_key_and_a_short_file() -> None:
    line, at, seen = KeyLine.new(NOON), NOON, set()
    for _ in range(12):
        at += timedelta(days=90)
        before = line
        line = line.rotated(at, PACE)
        seen.add(line.active.kid)
        assert states(line) == ["retiring", "active", "standby"]
        # Who signs was known to everybody, and who signed still is.
        assert {line.active.kid, before.active.kid} <= shown(before, at) & shown(line, at)
    assert len(seen) == 12


def test_a_removed_active_key_is_void_at_once_and_its_standby_signs_however_young() -> None:
    line = KeyLine.new(NOON).rotated(NOON, PACE)
    stolen, standby = line.active.kid, kid(line.standby)
    after = line.without(stolen, NOON + SECOND, PACE)
    assert states(after) == ["retiring", "removed", "active", "standby"]
    assert stolen not in shown(after, NOON + SECOND)
    assert after.active.kid == standby
    # The one that was made in a hurry has not been shown beside anybody.
    with pytest.raises(StandbyTooYoung):
        after.rotated(NOON + 2 * SECOND, PACE)


def test_a_removed_only_key_is_followed_by_a_new_one() -> None:
    line = KeyLine((SigningKey.made(NOON).activated(NOON),))
    after = line.without(line.active.kid, NOON, PACE)
    assert states(after) == ["removed", "active", "standby"]


def test_a_removed_standby_is_replaced_and_a_removed_retiring_key_leaves_early() -> None:
    line = KeyLine.new(NOON).rotated(NOON, PACE)
    without_standby = line.without(kid(line.standby), NOON, PACE)
    assert states(without_standby) == ["retiring", "active", "removed", "standby"]
    assert without_standby.active == line.active
    without_retiring = line.without(line.keys[0].kid, NOON, PACE)
    assert states(without_retiring) == ["removed", "active", "standby"]
    assert line.keys[0].kid not in shown(without_retiring, NOON)


def test_a_removed_key_stays_in_the_file_for_a_while_and_never_comes_back() -> None:
    line = KeyLine.new(NOON)
    stolen = line.active.kid
    after = line.without(stolen, NOON, PACE)
    assert after.without(stolen, NOON + SECOND, PACE) == after
    assert after.tidied(NOON + KEPT - SECOND, PACE).get(stolen).state is KeyState.REMOVED
    with pytest.raises(NoSuchSigningKey):
        after.tidied(NOON + KEPT, PACE).get(stolen)


def test_an_unknown_key_is_not_removed() -> None:
    with pytest.raises(NoSuchSigningKey, match="stranger"):
        KeyLine.new(NOON).without("stranger", NOON, PACE)


def test_of_two_that_wait_the_one_that_was_shown_first_signs() -> None:
    later, earlier = SigningKey.made(NOON + SECOND), SigningKey.made(NOON)
    undated = SigningKey(SigningKey.made(NOON).pair, KeyState.STANDBY)
    line = KeyLine((SigningKey.made(NOON).activated(NOON), undated, later, earlier))
    assert kid(line.standby) == earlier.kid


def test_keys_come_back_from_the_file_as_they_were_and_do_not_show_themselves() -> None:
    line = KeyLine.new(NOON).rotated(NOON, PACE)
    line = line.without(line.active.kid, NOON + SECOND, PACE)
    for key in line.keys:
        entry = key.to_entry()
        again = SigningKey.from_entry(entry)
        assert again.to_entry() == entry
        assert (again.state, again.since) == (key.state, key.since)
        assert entry["d"] not in repr(again)
