"""Finding conversations by name and by what was said, whatever the words are made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.chat.actions.search_sessions import SearchSessions
from services.chat.domain.search import Terms
from services.chat.storage.unit_of_work import SqlWork
from shared.db.database import Database
from shared.http.pages import cursor_of
from shared.ids import UserId, uuid7
from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.support.chat import a_session

EARLIER = datetime(2026, 11, 1, tzinfo=UTC)


async def a_talk(
    database: Database, user_id: UUID, name: str, *contents: str, active: bool = True, age: int = 0
) -> UUID:
    """A session with these messages."""
    at = EARLIER - timedelta(minutes=age)
    session = a_session(UserId(user_id), id=uuid7(), name=name, created_at=at, updated_at=at)
    async with SqlWork(database) as work:
        await work.sessions.add(session)
    for content in contents:
        await database.execute(
            "insert into chat_message (id, session_id, role, content, status, created_at, active)"
            " values ($1, $2, 'user', $3, 'done', now(), $4)",
            uuid7(),
            session.id,
            content,
            active,
        )
    return session.id


async def found(user: ChatUser, q: str, **query: Any) -> list[dict[str, Any]]:
    answer = await user.client.get("/chat/sessions", params={"q": q, **query})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def names(user: ChatUser, q: str, **query: Any) -> list[str]:
    return [session["name"] for session in await found(user, q, **query)]


async def test_all_words_stand_in_the_name_or_in_one_message(chat: ChatSuite) -> None:
    async with chat.user() as user:
        await a_talk(chat.database, user.id, "Garden", "When to plant Tulips?", age=1)
        await a_talk(chat.database, user.id, "Tulip mania", "prices", age=2)
        await a_talk(chat.database, user.id, "Split", "plant", "tulip", age=3)

        assert await names(user, "tulip") == ["Garden", "Tulip mania", "Split"]
        assert await names(user, "TULIP plant") == ["Garden"]
        assert await names(user, "lip man") == ["Tulip mania"]
        assert await names(user, "rose") == []


async def test_a_snippet_shows_where(chat: ChatSuite) -> None:
    async with chat.user() as user:
        text = "x" * 500 + "\n\nWhen  to plant\tTulips, and how?\n" + "y" * 500
        await a_talk(chat.database, user.id, "Garden", "tulips first", text)
        await a_talk(chat.database, user.id, "Tulips", "nothing", age=1)

        first, second = await found(user, "tulips")

        snippet = first["snippet"]
        assert snippet["match"] == "Tulips"
        assert snippet["before"].endswith("x When to plant ")
        assert snippet["after"].startswith(", and how? y")
        assert len(snippet["before"]) <= 80 >= len(snippet["after"])
        assert snippet["role"] == "user"
        assert second["snippet"] is None


@pytest.mark.parametrize(
    ("content", "q"),
    [
        ("100 % sure", "%"),
        ("snake_case", "_"),
        ("C:\\temp", "\\"),
        ("it's", "'"),
        ('say "no"', '"no"'),
        ("a & b | !c <-> d:*", "<-> & | !c d:*"),
        ("<b>bold</b>", "<b>"),
        ("x->y[0]; -- drop table", "-- [0];"),
        ("你好世界", "世界"),
        ("Größe ÄRGER", "ärger"),
        ("🙂 smile", "🙂"),
        ("na\u00efve", "na\u00efve"),
    ],
)
async def test_signs_mean_themselves(chat: ChatSuite, content: str, q: str) -> None:
    async with chat.user() as user:
        await a_talk(chat.database, user.id, "with", content)
        await a_talk(chat.database, user.id, "without", "plain words", age=1)
        assert await names(user, q) == ["with"]


async def test_only_what_is_shown_and_ones_own_is_found(chat: ChatSuite) -> None:
    async with chat.user() as ada, chat.user() as grace:
        await a_talk(chat.database, ada.id, "ada's", "secret word")
        await a_talk(chat.database, ada.id, "left branch", "secret word", active=False)
        assert await names(ada, "secret") == ["ada's"]
        assert await names(grace, "secret") == []


@pytest.mark.parametrize("q", ["", " ", "\t\n", "\x1c", "\x1f \x1d", "x" * 201, "a\x00b"])
async def test_a_bad_query_is_refused(chat: ChatSuite, q: str) -> None:
    async with chat.user() as user:
        answer = await user.client.get("/chat/sessions", params={"q": q})
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] in {"invalid_request", "unstorable_text"}


async def test_pages_of_a_search_show_each_session_once(chat: ChatSuite) -> None:
    async with chat.user() as user:
        for number in range(7):
            await a_talk(chat.database, user.id, f"s{number}", "same", age=number)
        seen: list[str] = []
        query: dict[str, Any] = {"q": "same", "limit": 3}
        while True:
            page = (await user.client.get("/chat/sessions", params=query)).json()
            seen += [session["name"] for session in page["data"]]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        assert seen == [f"s{number}" for number in range(7)]


async def test_a_page_looks_through_so_many_sessions_and_the_next_goes_on(
    chat: ChatSuite,
) -> None:
    async with chat.user() as user:
        for number in range(9):
            content = "needle" if number in (1, 8) else "hay"
            await a_talk(chat.database, user.id, f"s{number}", content, age=number)
        search = SearchSessions(lambda: SqlWork(chat.database), looked_through=4)
        pages: list[list[str]] = []
        before = None
        while True:
            result = await search(UserId(user.id), Terms.of("needle"), most=10, before=before)
            pages.append([one.session.name for one in result.found])
            before = result.looked_to
            if before is None:
                break
        # The user's own empty session is the newest of ten.
        assert pages == [["s1"], [], ["s8"]]


async def test_a_list_can_be_narrowed_to_a_provider(chat: ChatSuite) -> None:
    async with chat.user() as user:
        for provider in ("gemini", "openai"):
            body = {"name": f"at {provider}", "provider": provider}
            await user.client.post("/chat/sessions", json=body)
        listed = await user.client.get("/chat/sessions", params={"provider": "gemini"})
        assert [s["name"] for s in listed.json()["data"]] == ["at gemini"]
        assert await names(user, "at", provider="gemini") == ["at gemini"]


async def test_a_cursor_of_no_list_is_refused(chat: ChatSuite) -> None:
    async with chat.user() as user:
        before_all_time = cursor_of("0001-01-01T00:00:00+14:00", UUID(int=7))
        for cursor in ("AAAA", "MjAyNi0xMS0yNAFh", "%00", before_all_time):
            for search in ({}, {"q": "x"}):
                params = {"cursor": cursor, **search}
                answer = await user.client.get("/chat/sessions", params=params)
                assert (answer.status_code, answer.json()["code"]) == (422, "bad_cursor")
