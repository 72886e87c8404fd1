"""Who acts at the console is noted, also where they have a number and no name."""

from __future__ import annotations

import os
import pwd

import pytest

from deploy.companion.who import at_the_console

_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


def test_a_user_is_noted_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    assert at_the_console() == "console:ada"


def test_one_without_a_name_is_noted_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert at_the_console() == f"console:uid {os.getuid()}"
