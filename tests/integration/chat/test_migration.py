"""What was there before there were branches keeps its order, and goes back to it."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg2
import pytest
from alembic import command

from shared.db.migrations import alembic_config
from shared.ids import uuid7
from tests.support.engines import PostgresServer

_NAME = "companion_chat_migration"


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    postgres_server.create_database(_NAME)
    yield f"{postgres_server.url.rstrip('/')}/{_NAME}"
    postgres_server.drop_database(_NAME)


def test_messages_of_before_follow_each_other_and_one_turn_runs(url: str) -> None:
    config = alembic_config("chat", url)
    command.upgrade(config, "0002")
    session, other, user = uuid7(), uuid7(), uuid4()
    messages = [uuid7() for _ in range(3)]
    stray, early, late = uuid7(), uuid7(), uuid7()
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        for id_ in (session, other):
            cursor.execute(
                "insert into chat_session values (%s, %s, 'n', 'openai', null, now(), now())",
                (str(id_), str(user)),
            )
        for id_, of in [*((m, session) for m in messages), (stray, other)]:
            cursor.execute(
                "insert into chat_message (id, session_id, role, content, status, created_at)"
                " values (%s, %s, 'user', 'x', 'done', now())",
                (str(id_), str(of)),
            )
        for id_ in (early, late):
            cursor.execute(
                "insert into generation (id, user_id, session_id, question_id, answer_id,"
                " usage_event_id, request_id, tier, provider, model, sandbox, input_estimate,"
                " state, created_at, lease_expires_at) values (%s, %s, %s, %s, %s, %s, 'r', 'free',"
                " 'openai', 'm', true, 1, 'running', now(), now())",
                (str(id_), str(user), str(session), *(str(uuid4()) for _ in range(3))),
            )
    connection.close()

    command.upgrade(config, "head")

    assert parents(url) == {
        messages[0]: None,
        messages[1]: messages[0],
        messages[2]: messages[1],
        stray: None,
    }
    assert sessions_of_turns(url) == {early: None, late: session}
    command.downgrade(config, "0002")
    command.upgrade(config, "head")
    assert len(parents(url)) == 4
    assert sessions_of_turns(url) == {late: session}


def parents(url: str) -> dict[UUID, UUID | None]:
    return rows(url, "select id::text, parent_id::text from chat_message")


def sessions_of_turns(url: str) -> dict[UUID, UUID | None]:
    return rows(url, "select id::text, session_id::text from generation")


def rows(url: str, sql: str) -> dict[UUID, UUID | None]:
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(sql)
        found = cursor.fetchall()
    connection.close()
    return {UUID(one): UUID(other) if other else None for one, other in found}
