"""Images, tools and answer formats through the door of a chat session."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.integration.chat.conftest import ChatSuite, ChatUser

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 40
JPEG = b"\xff\xd8\xff\xe0" + b"\x00" * 40
TOOL = {
    "name": "get_weather",
    "description": "The weather of a place.",
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string"}},
        "required": ["place"],
    },
}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def an_image(data: bytes = PNG, media_type: str = "image/png") -> dict[str, Any]:
    return {"type": "image", "data": encoded(data), "media_type": media_type}


async def messages(user: ChatUser) -> list[dict[str, Any]]:
    answer = await user.client.get(f"/chat/sessions/{user.session_id}/messages")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def inputs(chat: ChatSuite, user: ChatUser) -> list[int]:
    """Tokens that the vendor read: a word is one, an image 85, a tool 10."""
    events = await chat.usage_events(user.id)
    return [event["data"]["input_tokens"] for event in events]


async def test_images_reach_the_vendor_and_go_along_with_what_follows(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        images = [
            an_image(),
            {"data": f"data:image/jpeg;base64,{encoded(JPEG)}"},
            {"url": "https://images.example.com/a.webp?size=1"},
        ]
        first = await user.ask("look", attachments=images)
        second = await user.ask("again")

        assert (first.status_code, second.status_code) == (200, 200), first.text + second.text
        asked = (await messages(user))[0]
        kept = [
            (a["type"], a["media_type"], a["size_bytes"], a["url"]) for a in asked["attachments"]
        ]
        assert kept == [
            ("image", "image/png", 48, None),
            ("image", "image/jpeg", 44, None),
            ("image", None, None, "https://images.example.com/a.webp?size=1"),
        ]
        one, two = await inputs(chat, user)
        assert one == 1 + 3 * 85
        assert two == one + 3 + 1


async def test_an_image_needs_no_media_type(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        answer = await user.ask("look", attachments=[{"type": "image", "data": encoded(JPEG)}])
        assert answer.status_code == 200, answer.text
        [attachment] = (await messages(user))[0]["attachments"]
        assert attachment["media_type"] == "image/jpeg"


async def test_an_image_needs_no_words(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        answer = await user.ask("", attachments=[an_image()])
        assert answer.status_code == 200, answer.text
        assert (await messages(user))[0]["content"] == ""


async def test_images_of_before_become_a_note_where_the_tier_has_none(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        assert (await user.ask("look", attachments=[an_image()])).status_code == 200
        # Gemini's images are enterprise's.
        answer = await user.ask("and now", provider="gemini")
        assert answer.status_code == 200, answer.text
        _, read = await inputs(chat, user)
        assert read == len(["[image]", "look", "You", "said:", "look", "and", "now"])


async def test_an_edited_question_keeps_its_images_unless_told_otherwise(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        first = await user.ask("look", attachments=[an_image()])
        question = first.json()["message"]["parent_id"]
        path = f"/chat/sessions/{user.session_id}/messages/{question}"
        for body, count in (
            ({"content": "look here"}, 1),
            ({"content": "x", "attachments": []}, 0),
        ):
            answer = await user.client.post(f"{path}/edit", json=body)
            assert answer.status_code == 200, answer.text
            assert len((await messages(user))[0]["attachments"]) == count
        again = await user.client.post(f"{path}/regenerate", json={})
        assert again.status_code == 200, again.text
        assert (await inputs(chat, user))[-1] == 86
        rows = await chat.database.fetch(
            "select 1 from chat_attachment where message_id = $1", question
        )
        assert len(rows) == 1


BAD_IMAGES: Mapping[str, Any] = {
    "no base64": {"data": "%%%", "media_type": "image/png"},
    "cut base64": {"data": "AAA", "media_type": "image/png"},
    "nothing": {},
    "both": {"data": encoded(PNG), "media_type": "image/png", "url": "https://example.com/a.png"},
    "empty": {"data": "", "media_type": "image/png"},
    "another type": an_image(JPEG, "image/png"),
    "text": an_image(b"hello", "image/png"),
    "svg": an_image(b"<svg/>", "image/svg+xml"),
    "no type, and no image": {"data": encoded(b"hello")},
    "unlike its data URL": {
        "data": f"data:image/png;base64,{encoded(PNG)}",
        "media_type": "image/gif",
    },
    "data URL without base64": {"data": "data:image/png,xyz"},
    "http": {"url": "http://example.com/a.png"},
    "file": {"url": "file:///etc/passwd"},
    "credentials": {"url": "https://user:secret@example.com/a.png"},
    "fragment": {"url": "https://example.com/a.png#x"},
    "no host": {"url": "https:///a.png"},
    "no port": {"url": "https://example.com:99999/a.png"},
    "bracket": {"url": "https://[::1/a.png"},
    "space": {"url": "https://example.com/a b.png"},
    "line break": {"url": "https://example.com/a\n.png"},
    "long": {"url": "https://example.com/" + "a" * 2_000},
    "NUL": {"url": "https://example.com/\x00"},
}


@pytest.mark.parametrize(
    "image",
    [
        an_image(JPEG, "image/jpg"),
        an_image(JPEG, "Image/JPEG"),
        {"data": f"data:image/jpg;base64,{encoded(JPEG)}"},
        {"url": f"data:IMAGE/jpeg;name=a.jpg;base64,{encoded(JPEG)}", "media_type": "image/jpeg"},
    ],
)
async def test_a_type_is_known_however_it_is_written(chat: ChatSuite, image: Any) -> None:
    async with chat.user(tier="pro") as user:
        answer = await user.ask("look", attachments=[image])
        assert answer.status_code == 200, answer.text
        question = (await messages(user))[0]
        assert [one["media_type"] for one in question["attachments"]] == ["image/jpeg"]


@pytest.mark.parametrize("image", BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
async def test_a_bad_image_is_refused_with_its_number(chat: ChatSuite, image: Any) -> None:
    async with chat.user(tier="pro") as user:
        answer = await user.ask("look", attachments=[an_image(), {"type": "image", **image}])
        assert answer.status_code == 422, answer.text
        problem = answer.json()
        assert (problem["code"], problem["attachment"]) == ("bad_attachment", 2)
        assert await chat.holds(user.id) == []


async def test_images_have_a_largest_number_and_size(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        many = await user.ask("look", attachments=[an_image()] * 11)
        assert (many.status_code, many.json()["code"]) == (422, "invalid_request")
        large = await user.ask("look", attachments=[an_image(PNG + b"\x00" * (5 << 20))])
        assert (large.status_code, large.json()["code"]) == (422, "bad_attachment")
        larger = await user.ask("look", attachments=[an_image(PNG + b"\x00" * (20 << 20))])
        assert larger.status_code == 413


async def test_what_a_tier_lacks_is_named_with_the_tier_that_has_it(chat: ChatSuite) -> None:
    async with chat.user() as free, chat.user(tier="pro") as pro:
        refused = [
            (await free.ask("look", attachments=[an_image()]), "multimodal", "pro"),
            (await free.ask("look", tools=[TOOL]), "function_calling", "pro"),
            (await pro.ask("x", provider="gemini", tools=[TOOL]), "function_calling", "enterprise"),
            (
                await pro.ask("x", provider="anthropic", effort="high"),
                "advanced_reasoning",
                "enterprise",
            ),
        ]
        for answer, feature, tier in refused:
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (402, "feature_not_in_tier")
            assert (problem["feature"], problem["upgrade_tier"]) == (feature, tier)
        # Where no tier is sold with it, thinking is a part of the model.
        assert (await free.ask("x", effort="low")).status_code == 200
        assert (await pro.ask("x", provider="anthropic", effort="none")).status_code == 200


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
async def test_a_tool_is_called_and_its_result_answered(chat: ChatSuite, provider: str) -> None:
    async with chat.user(tier="enterprise") as user:
        how = {"provider": provider, "tools": [TOOL]}
        called = await user.ask("[[sim:tool=get_weather]] weather?", **how)
        assert called.status_code == 200, called.text
        message = called.json()["message"]
        [call] = message["tool_calls"]
        assert (call["name"], called.json()["finish_reason"]) == ("get_weather", "tool_calls")
        assert isinstance(json.loads(call["arguments"]), dict)

        result = {"call_id": call["id"], "content": "sunny"}
        answered = await user.ask("", tool_results=[result], **how)

        assert answered.status_code == 200, answered.text
        listed = await messages(user)
        assert [m["role"] for m in listed] == ["user", "assistant", "tool", "assistant"]
        assert listed[2]["tool_results"] == [{**result, "name": "get_weather", "failed": False}]
        answer_id = answered.json()["message"]["id"]
        path = f"/chat/sessions/{user.session_id}/messages/{answer_id}/regenerate"
        again = await user.client.post(path, json=how)
        assert again.status_code == 200, again.text
        assert again.json()["message"]["parent_id"] == listed[2]["id"]
        assert (await user.ask("thanks", **how)).status_code == 200
        assert len(await messages(user)) == 6


async def test_results_answer_each_call_once(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        how: dict[str, Any] = {"tools": [TOOL]}
        stray = await user.ask("", tool_results=[{"call_id": "x", "content": "y"}], **how)
        assert (stray.status_code, stray.json()["code"]) == (422, "tool_results_unexpected")
        called = await user.ask("[[sim:tool=get_weather,calls=2]] weather?", **how)
        first, second = (call["id"] for call in called.json()["message"]["tool_calls"])
        for ids in ([first], [first, first], [first, "other"], [first, second, "other"]):
            results = [{"call_id": id_, "content": "y"} for id_ in ids]
            answer = await user.ask("", tool_results=results, **how)
            assert (answer.status_code, answer.json()["code"]) == (422, "tool_results_unexpected")
            assert answer.json()["wanted_call_ids"] == sorted([first, second])
        odd = [{"call_id": id_, "content": "a\x00b"} for id_ in (first, second)]
        unstorable = await user.ask("", tool_results=odd, **how)
        assert (unstorable.status_code, unstorable.json()["code"]) == (422, "unstorable_text")
        results = [{"call_id": id_, "content": "y", "failed": True} for id_ in (second, first)]
        assert (await user.ask("go on", tool_results=results, **how)).status_code == 200


async def test_calls_that_nobody_answered_are_not_sent_again(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        await user.ask("[[sim:tool=get_weather]] weather?", tools=[TOOL])
        answer = await user.ask("never mind")
        assert answer.status_code == 200, answer.text


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


BAD_TOOLS: Mapping[str, tuple[list[Any], str]] = {
    "space in name": ([{"name": "a b"}], "bad_tool"),
    "line break in name": ([{"name": "a\n"}], "bad_tool"),
    "no name": ([{}], "invalid_request"),
    "long name": ([{"name": "a" * 65}], "invalid_request"),
    "twice": ([{"name": "a"}, {"name": "a"}], "bad_tool"),
    "65 tools": ([{"name": f"t{n}"} for n in range(65)], "invalid_request"),
    "no schema": ([{"name": "a", "parameters": "object"}], "invalid_request"),
    "schema of a text": ([{"name": "a", "parameters": {"type": "string"}}], "bad_schema"),
    "unknown type": (
        [{"name": "a", "parameters": {"properties": {"x": {"type": "colour"}}}}],
        "bad_schema",
    ),
    "type a number": ([{"name": "a", "parameters": {"type": 5}}], "bad_schema"),
    "property a text": ([{"name": "a", "parameters": {"properties": {"x": "y"}}}], "bad_schema"),
    "properties a list": ([{"name": "a", "parameters": {"properties": []}}], "bad_schema"),
    "required a text": ([{"name": "a", "parameters": {"required": "x"}}], "bad_schema"),
    "enum a text": ([{"name": "a", "parameters": {"enum": "x"}}], "bad_schema"),
    "deep": ([{"name": "a", "parameters": _deep(20)}], "bad_schema"),
    "very deep": ([{"name": "a", "parameters": _deep(300)}], "bad_schema"),
    "deep data": (
        [{"name": "a", "parameters": {"default": json.loads("[" * 300 + "]" * 300)}}],
        "bad_schema",
    ),
    "large": ([{"name": "a", "parameters": {"description": "x" * 40_000}}], "bad_schema"),
    "huge number": ([{"name": "a", "parameters": {"maximum": 1 << 80}}], "bad_schema"),
    "lone surrogate": ([{"name": "a", "parameters": {"title": "\ud800"}}], "bad_schema"),
}


@pytest.mark.parametrize(("tools", "code"), BAD_TOOLS.values(), ids=BAD_TOOLS.keys())
async def test_a_bad_tool_is_refused_before_anything_is_held(
    chat: ChatSuite, tools: list[Any], code: str
) -> None:
    async with chat.user(tier="pro") as user:
        answer = await _raw(user, {"content": "hi", "tools": tools})
        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert await chat.holds(user.id) == []


async def _raw(user: ChatUser, body: Any) -> httpx.Response:
    return await user.client.post(
        f"/chat/sessions/{user.session_id}/messages",
        content=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"speak": True}, "speak_needs_stream"),
        ({"speak": True, "stream": True}, "speak_not_offered"),
        ({"speak": {"voice_id": "x"}, "stream": True}, "speak_not_offered"),
        ({"speak": 1, "stream": True}, "invalid_request"),
        ({"speak": {"voice": "x"}, "stream": True}, "invalid_request"),
        ({"speak": {"settings": {"speed": 9}}, "stream": True}, "invalid_request"),
        ({"tool_choice": {"name": "none_of_them"}, "tools": [TOOL]}, "bad_tool"),
        ({"tool_choice": "required"}, "bad_tool"),
        ({"tool_choice": "maybe"}, "invalid_request"),
        ({"temperature": 3}, "invalid_request"),
        ({"temperature": float("nan")}, "invalid_request"),
        ({"temperature": "hot"}, "invalid_request"),
        ({"effort": "extreme"}, "invalid_request"),
        ({"answer_format": {"type": "json_schema"}}, "bad_schema"),
        ({"answer_format": {"type": "json_schema", "schema": {"type": "array"}}}, "bad_schema"),
        ({"answer_format": {"type": "xml"}}, "invalid_request"),
        ({"attachments": "x"}, "invalid_request"),
        ({"attachments": [{"type": "video", "url": "https://example.com/a"}]}, "invalid_request"),
        ({"tool_results": [{"call_id": "", "content": ""}]}, "invalid_request"),
        ({"content": "a\x00b", "tools": [TOOL]}, "unstorable_text"),
    ],
)
async def test_bad_wishes_get_a_clear_error(chat: ChatSuite, parts: Any, code: str) -> None:
    async with chat.user(tier="pro") as user:
        answer = await _raw(user, {"content": "hi", **parts})
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
        assert await chat.usage_events(user.id) == []


async def test_an_answer_by_schema_is_json(chat: ChatSuite) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with chat.user() as user:
        how = {"type": "json_schema", "schema": schema, "name": "count"}
        answer = await user.ask("how many?", answer_format=how)
        assert answer.status_code == 200, answer.text
        assert isinstance(json.loads(answer.json()["message"]["content"])["n"], int)


async def test_a_question_longer_than_the_tier_takes_is_told_so(chat: ChatSuite) -> None:
    async with chat.user() as free, chat.user(tier="pro") as pro:
        refused = await free.ask("word " * 20_000)
        assert (refused.status_code, refused.json()["code"]) == (422, "question_too_long")
        facts = refused.json()
        assert facts["tokens"] > facts["most_tokens"] == 16_000 - 1_000 - 500
        assert await chat.holds(free.id) == []
        assert (await pro.ask("word " * 20_000)).status_code == 200


async def test_the_oldest_is_forgotten_first(chat: ChatSuite) -> None:
    async with chat.user() as user:
        answers = [await user.ask(f"{word} " * 2_000) for word in ("first", "second", "third")]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert [answer.json()["messages_left_out"] for answer in answers] == [0, 0, 2]
        read = await inputs(chat, user)
        # Each word counts two of the 13,500 that the free tier's prompt may have.
        assert read[0] == 2_000
        assert read[1] < 2 * read[0] + 2_100
        assert read[2] < 13_500
        assert (await messages(user))[0]["content"].startswith("first")
