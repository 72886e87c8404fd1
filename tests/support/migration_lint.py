"""What a migration may do while the service runs, checked on the SQL that it comes to."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData

from shared.db.migrations import LOCK_TIMEOUT

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
CONTRACTING = {"ban-drop-column", "ban-drop-table", "ban-drop-not-null", "ban-drop-constraint"}
"""What takes something away; allowed where nothing uses it any more."""

_INDEX_ON_ONLY = re.compile(r"create index (?:if not exists )?\w+ on only (\w+)\b[^;]*;", re.I)
_BOOK_KEEPING = re.compile(
    r"(?:create table|insert into|update|delete from) alembic_version.*?;", re.I | re.S
)
_STATEMENT = re.compile(r"[^;]+")
_CHANGES_ROWS = re.compile(r"^\s*(?:with\b.*\b)?(update|delete)\s", re.I | re.S)
_ALTERS_TABLE = re.compile(
    r"\s*alter table (?:if exists )?(?:only )?(?:\w+\.)?\"?(\w+)\"?\s+(.*)", re.I | re.S
)
_DROPS_COLUMN = re.compile(
    r"\bdrop (?!constraint\b|default\b|not\b|expression\b|identity\b)"
    r"(?:column )?(?:if exists )?\"?(\w+)\"?",
    re.I,
)
_DROPS_CONSTRAINT = re.compile(r"\bdrop constraint (?:if exists )?\"?(\w+)\"?", re.I)
_DROPS_TABLE = re.compile(r"\s*drop table (?:if exists )?(.*?)(?:\bcascade\b|$)", re.I | re.S)
_FUNCTION_BODY = re.compile(r"\$(\w*)\$.*?\$\1\$", re.S)
_DOES_ANYTHING = re.compile(r"^\s*do\b", re.I)
_NOT_SAID = re.compile(r"--[^\n]*|/\*.*?\*/|('(?:[^']|'')*')", re.S)
"""Comments and texts: no statement, and no limit of one either."""
_LIMITED = re.compile(r"\bwhere\b.*\blimit\s+\d+", re.I | re.S)
# What squawk lets through, by what it does to everybody who comes meanwhile.
_HOLDS_UP = {
    "locks-a-table": r"lock\b",
    "empties-a-table": r"truncate\b",
    "rewrites-a-table": r"vacuum\b.*\bfull\b|cluster\b"
    r"|alter table\b.*\bset (?:logged|unlogged|tablespace|access method)\b"
    r"|alter table\b.*\badd (?:column )?(?:if not exists )?\S+ (?:big|small)?serial\b",
    "reads-all-rows": r"refresh materialized view (?!concurrently)"
    r"|alter table\b.*\battach partition\b"
    r"|alter table\b.*\badd column\b[^,]*\bcheck\s*\(",
    "drops-of-everybody": r"drop owned\b",
}
_TIME_LIMIT = re.compile(
    r"(?:set (?:local |session )?lock_timeout\b|reset (?:lock_timeout|all)\b)", re.I
)
_OUR_TIME_LIMIT = f"set lock_timeout = {LOCK_TIMEOUT}"
_IS_REPEATABLE = re.compile(
    r"\bif (?:not )?exists\b|^\s*(?:set|begin|commit|update|delete|comment)\b"
    r"|\bor replace\b|\bon conflict\b",
    re.I,
)


def rendered(config: Config, revision: str, before: str | None) -> str:
    """The SQL of one migration, as it would run."""
    config.output_buffer = io.StringIO()
    command.upgrade(config, f"{before or 'base'}:{revision}", sql=True)
    return _BOOK_KEEPING.sub("", config.output_buffer.getvalue())


def complaints(sql: str, metadata: MetaData, *, contracts: bool = False) -> list[str]:
    """What is wrong with a migration; empty when it may run beside the service."""
    read = _without_empty_indexes(sql, metadata)
    return [*_of_squawk(read, contracts=contracts), *_of_ours(sql, metadata)]


def _without_empty_indexes(sql: str, metadata: MetaData) -> str:
    """Without what is made on a partitioned table alone, which has no rows of its own: that can't
    be made concurrently, and need not."""
    return _INDEX_ON_ONLY.sub(
        lambda found: "" if _is_partitioned(found[1], metadata) else found[0], sql
    )


def _is_partitioned(table: str, metadata: MetaData) -> bool:
    known = metadata.tables.get(table)
    return known is not None and bool(known.dialect_options["postgresql"]["partition_by"])


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
    statements = [said for one in _STATEMENT.findall(_plain(sql)) if (said := one.strip())]
    for statement in statements:
        yield from _drops_what_is_used(statement, metadata)
        yield from _holds_up(statement)
    yield from _waits_without_end(statements)
    yield from _not_to_be_repeated(statements)


def _waits_without_end(statements: Sequence[str]) -> Iterator[str]:
    limited = True
    for statement in statements:
        if _TIME_LIMIT.match(statement):
            limited = statement.lower() == _OUR_TIME_LIMIT
        elif not limited and "concurrently" not in statement.lower():
            yield f"waits-without-end: {statement[:60]}"


def _plain(sql: str) -> str:
    """Without function bodies, texts and comments, which hold semicolons and words of their own."""
    return _NOT_SAID.sub(
        _unsaid, _FUNCTION_BODY.sub("X", sql.replace(f"'{LOCK_TIMEOUT}'", LOCK_TIMEOUT))
    )


def _unsaid(found: re.Match[str]) -> str:
    return "X" if found[1] else " "


def _drops_what_is_used(statement: str, metadata: MetaData) -> Iterator[str]:
    if altered := _ALTERS_TABLE.match(statement):
        table, actions = altered.groups()
        for column in _DROPS_COLUMN.findall(actions):
            if table in metadata.tables and column in metadata.tables[table].columns:
                yield f"drops-what-is-used: {table}.{column} stands in storage/tables.py"
        for name in _DROPS_CONSTRAINT.findall(actions):
            if not name.startswith("ck_"):
                yield f"drops-what-is-used: {name}: only a check is nothing that code relies on"
            elif name in _constraints_of(table, metadata):
                yield f"drops-what-is-used: {name} stands in storage/tables.py"
    if dropped := _DROPS_TABLE.match(statement):
        for name in dropped[1].split(","):
            table = name.strip().rpartition(".")[2].strip('"')
            if table in metadata.tables:
                yield f"drops-what-is-used: {table} stands in storage/tables.py"


def _constraints_of(table: str, metadata: MetaData) -> set[str]:
    known = metadata.tables.get(table)
    names = set() if known is None else {str(one.name) for one in known.constraints}
    # Ours are named for short in the tables, and in full by the convention.
    return names | {f"ck_{table}_{name}" for name in names}


def _holds_up(statement: str) -> Iterator[str]:
    if _CHANGES_ROWS.match(statement) and not _LIMITED.search(statement):
        yield f"changes-all-rows-at-once: {statement[:60]}"
    if re.match(r"merge\b", statement, re.I):
        yield f"changes-all-rows-at-once: {statement[:60]}"
    if _DOES_ANYTHING.match(statement):
        yield "does-what-nobody-sees: a block of code can't be checked"
    for rule, pattern in _HOLDS_UP.items():
        if re.match(pattern, statement, re.I | re.S):
            yield f"{rule}: {statement[:60]}"


def _not_to_be_repeated(statements: Sequence[str]) -> Iterator[str]:
    """A migration of several transactions may stop between two, and begins from its start again."""
    commits = [i for i, statement in enumerate(statements) if statement.lower() == "commit"]
    # What is in the last one is done together with the note that all of it was done.
    for statement in statements[: commits[-2]] if len(commits) > 1 else ():
        if not _IS_REPEATABLE.search(statement) and "concurrently" not in statement.lower():
            yield f"bears-no-repetition: {statement[:60]}"
