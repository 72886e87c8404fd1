"""One kind of dataclass: a frozen class of one kind can't have a parent of the other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_OTHER = re.compile(
    r"^(from dataclasses import .*\bdataclass\b|import dataclasses\b)", re.MULTILINE
)


def test_dataclasses_are_those_of_shared_values() -> None:
    files = [
        file
        for room in ("services", "shared", "deploy")
        for file in (ROOT / room).rglob("*.py")
        if "node_modules" not in file.parts and file != ROOT / "shared" / "values.py"
    ]
    assert len(files) > 500, "the search itself must find files"
    found = [
        str(file.relative_to(ROOT)) for file in files if _OTHER.search(file.read_text("utf-8"))
    ]
    assert found == []


def test_the_search_knows_them() -> None:
    assert _OTHER.search("from dataclasses import dataclass, field\n")
    assert _OTHER.search("import dataclasses\n")
    assert not _OTHER.search("from dataclasses import field, replace\n")
