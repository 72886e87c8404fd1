"""Families whose members find their place by import."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from shared.registry import Registry, discover


def test_a_member_is_found_by_its_name() -> None:
    family: Registry[str] = Registry("colour")
    assert family.register("red")("#f00") == "#f00"
    assert family["red"] == "#f00"
    assert list(family) == ["red"]
    assert len(family) == 1
    assert family.get("blue") is None


def test_a_name_used_twice_fails_at_once() -> None:
    family: Registry[str] = Registry("colour")
    family.register("red")("#f00")
    with pytest.raises(ValueError, match="colour 'red' is registered twice"):
        family.register("red")("#e00")
    assert family["red"] == "#f00"


def test_discovery_imports_every_public_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "found_by_test"
    package.mkdir()
    for name in ("__init__", "one", "two", "_private"):
        (package / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    discover("found_by_test")
    found = {name for name in sys.modules if name.startswith("found_by_test.")}
    for name in [*found, "found_by_test"]:
        monkeypatch.delitem(sys.modules, name)
    assert found == {"found_by_test.one", "found_by_test.two"}
