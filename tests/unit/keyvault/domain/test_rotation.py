"""What may follow what on the keyring's document."""

from __future__ import annotations

from typing import Any

import pytest

from services.keyvault.domain.errors import (
    NoSuchVersion,
    NothingOnStandby,
    VersionIsActive,
    VersionWasUsedUp,
)
from services.keyvault.domain.keyring import KeyringRefused, new_keyring_document, read_keyring
from services.keyvault.domain.rotation import (
    Replica,
    not_knowing,
    on_standby,
    still_wrapping,
    with_active,
    with_closed,
    with_standby,
)

ONE = new_keyring_document()
TWO = with_standby(ONE)
SECOND = with_active(TWO, 2)
OVER = with_closed(SECOND, 1)


def states(document: Any) -> dict[int, str]:
    return {version: state.value for version, state in read_keyring(document).states.items()}


def test_a_version_goes_from_standby_to_active_to_retired_to_closed() -> None:
    assert states(ONE) == {1: "active"}
    assert states(TWO) == {1: "active", 2: "standby"}
    assert states(SECOND) == {1: "retired", 2: "active"}
    assert states(OVER) == {1: "closed", 2: "active"}
    assert states(with_standby(OVER)) == {1: "closed", 2: "active", 3: "standby"}


def test_each_step_done_twice_changes_nothing_more() -> None:
    assert with_standby(TWO) == TWO
    assert with_active(SECOND, 2) == SECOND
    assert with_closed(OVER, 1) == OVER


def test_a_step_changes_nothing_but_what_it_is_about() -> None:
    assert TWO["keys"][0] == ONE["keys"][0]
    assert [entry["key"] for entry in OVER["keys"]] == [entry["key"] for entry in TWO["keys"]]
    for name in ("environment", "fingerprint_keys"):
        assert OVER[name] == ONE[name]


def test_the_new_key_is_another_one() -> None:
    assert len(set(read_keyring(TWO).keys.values())) == 2


def test_a_closed_version_has_no_key_to_open_anything_with() -> None:
    assert set(read_keyring(SECOND).keys) == {1, 2}
    assert set(read_keyring(OVER).keys) == {2}


def test_what_must_not_follow_is_refused() -> None:
    with pytest.raises(VersionWasUsedUp):
        with_active(SECOND, 1)
    with pytest.raises(VersionWasUsedUp):
        with_active(OVER, 1)
    with pytest.raises(NoSuchVersion):
        with_active(TWO, 7)
    with pytest.raises(NoSuchVersion):
        with_closed(TWO, 7)
    with pytest.raises(VersionIsActive):
        with_closed(TWO, 1)


def test_which_version_is_to_be_activated() -> None:
    assert on_standby(read_keyring(TWO).states) == 2
    assert on_standby(read_keyring(SECOND).states, 2) == 2
    with pytest.raises(NothingOnStandby):
        on_standby(read_keyring(SECOND).states)
    with pytest.raises(VersionWasUsedUp):
        on_standby(read_keyring(SECOND).states, 1)


@pytest.mark.parametrize("change", [with_standby, lambda document: with_active(document, 1)])
def test_a_spoiled_document_is_not_changed(change: Any) -> None:
    with pytest.raises(KeyringRefused):
        change({**ONE, "keys": []})


def test_replicas_that_are_behind_are_found() -> None:
    old = Replica("old", 1, frozenset({1}))
    informed = Replica("informed", 1, frozenset({1, 2}))
    ahead = Replica("ahead", 2, frozenset({1, 2}))
    assert not_knowing([old, informed, ahead], 2) == [old]
    assert still_wrapping([old, informed, ahead], 1) == [old, informed]
