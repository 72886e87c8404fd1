"""What our SQL must not do, wherever it stands."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# At the beginning of a text or of a line; what is asked for within brackets comes back to nobody.
_NO_COLUMNS = re.compile(r"""["\n]\s*select\s+from\b""")


def test_no_statement_answers_rows_without_columns() -> None:
    """asyncpg writes behind the end of such a row (its `record_dealloc`, 0.32)."""
    files = [
        file
        for room in ("services", "shared", "deploy")
        for file in (ROOT / room).rglob("*.py")
        if "migrations" not in file.parts and "node_modules" not in file.parts
    ]
    assert len(files) > 500, "the search itself must find files"
    found = {
        str(file.relative_to(ROOT)): match[0]
        for file in files
        if (match := _NO_COLUMNS.search(file.read_text("utf-8")))
    }
    assert found == {}


def test_the_search_knows_one() -> None:
    assert _NO_COLUMNS.search('_LOCK = "select from erasure where id = $1 for update"')
    assert _NO_COLUMNS.search('"""\nselect from t\n"""')
    assert not _NO_COLUMNS.search("exists (select from t)")
