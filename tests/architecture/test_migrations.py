"""Migrations run beside the service, and none is changed once it has run somewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import Script, ScriptDirectory

from deploy.companion.programs import SERVICES
from shared.db.migrations import alembic_config
from tests.support.migration_lint import complaints, rendered

ROOT = Path(__file__).parents[2]
# As `sha256sum` writes it: those that ran before the first release, when nobody was there to wait.
BASELINE = Path(__file__).with_name("migrations.sha256")

USED = sa.MetaData()
sa.Table("parted", USED, sa.Column("id", sa.Integer), postgresql_partition_by="RANGE (id)")
sa.Table(
    "thing",
    USED,
    sa.Column("id", sa.Integer),
    sa.Column("used", sa.Text),
    sa.CheckConstraint("id > 0", name="ck_thing_used"),
    sa.CheckConstraint("id < 9", name="short"),
)
HEAD = "set lock_timeout = '3s';\n"


def baseline() -> dict[str, str]:
    lines = (line.split() for line in BASELINE.read_text().splitlines())
    return {name: digest for digest, name in lines}


def scripts(service: str) -> Iterator[tuple[str, Script]]:
    directory = ScriptDirectory.from_config(alembic_config(service, "postgresql://nowhere"))
    for script in directory.walk_revisions():
        yield str(Path(script.path).relative_to(ROOT)), script


def test_what_has_run_is_never_changed() -> None:
    assert len(baseline()) >= 20
    changed = [
        name
        for name, digest in baseline().items()
        if hashlib.sha256((ROOT / name).read_bytes()).hexdigest() != digest
    ]
    assert changed == [], "write another migration in place of a change"


@pytest.mark.parametrize("service", SERVICES)
def test_new_migrations_lock_nobody_out(service: str) -> None:
    metadata = import_module(f"services.{service}.storage.tables").metadata
    known, found = baseline(), {}
    for name, script in scripts(service):
        if name in known:
            continue
        before = script.down_revision
        assert isinstance(before, str), f"{name} has one revision before it"
        config = alembic_config(service, "postgresql://nowhere")
        contracts = bool(getattr(script.module, "contracts", ""))
        found[name] = complaints(
            rendered(config, script.revision, before), metadata, contracts=contracts
        )
    assert {name: said for name, said in found.items() if said} == {}, "see docs/migrations.md"


@pytest.mark.parametrize("service", SERVICES)
def test_every_migration_can_be_read_as_sql(service: str) -> None:
    for _, script in scripts(service):
        config = alembic_config(service, "postgresql://nowhere")
        before = script.down_revision
        assert before is None or isinstance(before, str)
        assert rendered(config, script.revision, before).lower().startswith("set lock_timeout")


@pytest.mark.parametrize(
    ("rule", "sql"),
    [
        (
            "adding-field-with-default",
            "alter table thing add column x uuid default gen_random_uuid() not null;",
        ),
        ("adding-required-field", "alter table thing add column x text not null;"),
        ("require-concurrent-index-creation", "create index i on thing (used);"),
        ("changing-column-type", "alter table thing alter column used type varchar(10);"),
        ("renaming-column", "alter table thing rename column used to other;"),
        ("renaming-table", "alter table thing rename to other;"),
        ("ban-drop-column", "alter table thing drop column gone;"),
        ("ban-drop-table", "drop table gone;"),
        ("adding-not-nullable-field", "alter table thing alter column used set not null;"),
        (
            "constraint-missing-not-valid",
            "alter table thing add constraint c check (length(used) < 9);",
        ),
        (
            "adding-foreign-key-constraint",
            "alter table thing add constraint f foreign key (id) references other (id);",
        ),
        ("disallowed-unique-constraint", "alter table thing add constraint u unique (used);"),
        ("changes-all-rows-at-once", "update thing set used = 'x';"),
        ("changes-all-rows-at-once", "update thing set used = (select 'x' from other limit 1);"),
        ("changes-all-rows-at-once", "update thing set used = 'x limit 1' /* limit 5 */;"),
        ("changes-all-rows-at-once", "with a as (select 1) delete from thing;"),
        (
            "changes-all-rows-at-once",
            "merge into thing using other on thing.id = other.id when matched then delete;",
        ),
        ("does-what-nobody-sees", "do $$ begin update thing set used = 'x'; end $$;"),
        ("locks-a-table", "-- Why.\nlock table thing in access exclusive mode;"),
        ("empties-a-table", "truncate thing;"),
        ("rewrites-a-table", "vacuum (analyze, full) thing;"),
        ("rewrites-a-table", "cluster thing using i;"),
        ("rewrites-a-table", "alter table thing set unlogged;"),
        ("rewrites-a-table", "alter table thing add column x bigserial;"),
        ("reads-all-rows", "refresh materialized view sums;"),
        ("reads-all-rows", "alter table thing attach partition p for values in (1);"),
        ("reads-all-rows", "alter table thing add column x int check (x > 0);"),
        ("waits-without-end", "set local lock_timeout = 0; alter table thing add column x text;"),
        ("waits-without-end", "reset all; alter table thing add column x text;"),
        (
            "bears-no-repetition",
            "begin; alter table thing add column x text; commit;"
            " create index concurrently i on thing (x); begin; commit;",
        ),
    ],
)
def test_what_would_lock_or_break_is_rejected(rule: str, sql: str) -> None:
    said = complaints(HEAD + sql, USED)
    assert any(one.startswith(rule) for one in said), said


def test_an_index_on_a_partitioned_table_alone_holds_nobody_up() -> None:
    make = "create index if not exists i on only {} (id) where id is not null;"
    assert complaints(HEAD + make.format("parted"), USED) == []
    # A plain table has all of its rows itself, whatever is said.
    for said in (make.format("thing"), "create index if not exists i on parted (id);"):
        assert any("concurrent" in one for one in complaints(HEAD + said, USED)), said


def test_without_a_lock_timeout_it_is_rejected() -> None:
    slow = "alter table thing add column x uuid default gen_random_uuid() not null;"
    assert any(one.startswith("require-lock-timeout") for one in complaints(slow, USED))
    assert not any(one.startswith("require-lock") for one in complaints(HEAD + slow, USED))


def test_to_contract_is_to_drop_what_no_code_knows() -> None:
    gone, used = "alter table thing drop column gone;", "alter table thing drop column used;"
    assert complaints(HEAD + gone, USED, contracts=True) == []
    assert complaints(HEAD + used, USED, contracts=True) != []
    checked = "alter table thing drop constraint ck_thing_gone;"
    assert complaints(HEAD + checked, USED) != []
    assert complaints(HEAD + checked, USED, contracts=True) == []
    for sql in (
        "alter table thing drop constraint ck_thing_used;",
        "alter table thing drop constraint ck_thing_short;",
        "alter table thing drop constraint if exists uq_thing_id;",
        "drop table thing;",
        "drop table gone, public.thing;",
        "alter table only thing drop used;",
        "alter table public.thing drop column gone, drop column if exists used;",
        "drop owned by companion_chat;",
    ):
        assert complaints(HEAD + sql, USED, contracts=True) != [], sql


@pytest.mark.parametrize(
    "sql",
    [
        "alter table thing add column x text;",
        "alter table thing add column x boolean default false not null;",
        "create index concurrently i on thing (used);",
        "alter table thing add constraint c check (id > 0) not valid;",
        "alter table thing validate constraint c;",
        "begin; create table fresh (id bigint primary key); create index j on fresh (id); commit;",
        "update thing set used = 'x' where id in (select id from thing where used is null"
        " limit 5000);",
        "begin; alter table thing add column if not exists x text; commit; set lock_timeout = 0;"
        " create index concurrently i on thing (x); set lock_timeout = '3s'; begin;"
        " alter table thing add column y text; commit;",
        "alter table thing alter column used set default 'x';",
    ],
)
def test_what_holds_nobody_up_may_be_done(sql: str) -> None:
    assert complaints(HEAD + sql, USED) == []
