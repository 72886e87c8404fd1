"""What a migration may do while the service runs, checked on the SQL that it comes to."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData

_SQUAWK = Path(sys.executable).with_name("squawk")

# Matters of taste, or of what all tables here agree on. What is left would lock a table for as
# long as its rows take, or break the replicas of the release before.
_NOT_ASKED = (
    "ban-char-field",
    "ban-create-domain-with-constraint",
    "ban-truncate-cascade",
    "identifier-too-long",
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "prefer-identity",
    "prefer-repack",
    "prefer-robust-stmts",
    "prefer-text-field",
    "prefer-timestamp-tz",
    "require-statement-timeout",
    "require-table-schema",
)
CONTRACTING = {"ban-drop-column", "ban-drop-table", "ban-drop-not-null"}
"""What takes something away; allowed where nothing uses it any more."""

_BOOK_KEEPING = re.compile(
    r"(?:create table|insert into|update|delete from) alembic_version.*?;", re.I | re.S
)
_STATEMENT = re.compile(r"[^;]+")
_CHANGES_ROWS = re.compile(r"^\s*(?:with\b.*\b)?(update|delete)\s", re.I | re.S)
_DROPS_COLUMN = re.compile(
    r"alter table (?:if exists )?\"?(\w+)\"? drop column (?:if exists )?\"?(\w+)\"?", re.I
)
_DROPS_TABLE = re.compile(r"drop table (?:if exists )?\"?(\w+)\"?", re.I)
_FUNCTION_BODY = re.compile(r"\$(\w*)\$.*?\$\1\$", re.S)


def rendered(config: Config, revision: str, before: str | None) -> str:
    """The SQL of one migration, as it would run."""
    config.output_buffer = io.StringIO()
    command.upgrade(config, f"{before or 'base'}:{revision}", sql=True)
    return _BOOK_KEEPING.sub("", config.output_buffer.getvalue())


def complaints(sql: str, metadata: MetaData, *, contracts: bool = False) -> list[str]:
    """What is wrong with a migration; empty when it may run beside the service."""
    return [*_of_squawk(sql, contracts=contracts), *_of_ours(sql, metadata)]


def _of_squawk(sql: str, *, contracts: bool) -> Iterator[str]:
    said = subprocess.run(
        [
            str(_SQUAWK),
            "--reporter=json",
            "--pg-version=18",
            f"--exclude={','.join(_NOT_ASKED)}",
            "--stdin-filepath=migration.sql",
        ],
        input=sql,
        capture_output=True,
        text=True,
        check=False,
    )
    if said.returncode not in (0, 1):
        raise ValueError(f"squawk does not run: {said.stderr[:300]}")
    for one in json.loads(said.stdout):
        if one["rule_name"] == "syntax-error":
            raise ValueError(f"squawk can't read it: {one['message']}")
        if not (contracts and one["rule_name"] in CONTRACTING):
            yield f"{one['rule_name']}, line {one['line'] + 1}: {one['message']}"


def _of_ours(sql: str, metadata: MetaData) -> Iterator[str]:
    statements = _FUNCTION_BODY.sub("''", sql)
    for table, column in _DROPS_COLUMN.findall(statements):
        if table in metadata.tables and column in metadata.tables[table].columns:
            yield f"drops-what-is-used: {table}.{column} stands in storage/tables.py"
    for table in _DROPS_TABLE.findall(statements):
        if table in metadata.tables:
            yield f"drops-what-is-used: {table} stands in storage/tables.py"
    for statement in _STATEMENT.findall(statements):
        if _CHANGES_ROWS.match(statement) and not re.search(r"\blimit\b", statement, re.I):
            yield f"changes-all-rows-at-once: {statement.strip()[:60]}"
