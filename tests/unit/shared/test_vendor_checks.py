"""What a vendor's answer to the free call says about a key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.vendors import KeyStatus, vendors
from shared.vendors.base import LIMITED, NO_QUOTA, Answer, Check
from shared.vendors.elevenlabs import MODELS, VOICES


def openai(code: str | None = None, message: str = "", type_: str | None = None) -> Any:
    return {"error": {"code": code, "message": message, "type": type_}}


def anthropic(type_: str, error_code: str | None = None) -> Any:
    details = {"error_code": error_code} if error_code else None
    return {"type": "error", "error": {"type": type_, "message": "", "details": details}}


def gemini(reason: str | None = None) -> Any:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
    return {"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": details}}


def elevenlabs(word: str, field: str = "status") -> Any:
    return {"detail": {field: word, "message": ""}}


VALID, INVALID, LIMITED_, UNREACHABLE = KeyStatus
MISSING_SCOPES = "You have insufficient permissions. Missing scopes: api.model.read."

ANSWERS: list[tuple[str, int, Any, KeyStatus]] = [
    ("openai", 200, {"data": []}, VALID),
    ("openai", 401, openai("invalid_api_key"), INVALID),
    ("openai", 401, openai(None, MISSING_SCOPES), LIMITED_),
    ("openai", 403, openai(None, MISSING_SCOPES), LIMITED_),
    ("openai", 403, openai("unsupported_country_region_territory"), LIMITED_),
    ("openai", 401, openai("account_deactivated"), LIMITED_),
    ("openai", 401, openai(None, "You must be a member of an organization"), LIMITED_),
    ("openai", 401, openai("ip_not_authorized"), LIMITED_),
    ("openai", 404, openai("model_not_found"), UNREACHABLE),
    ("openai", 400, openai(None, type_="invalid_request_error"), UNREACHABLE),
    ("openai", 429, openai("rate_limit_exceeded"), UNREACHABLE),
    ("openai", 429, openai("slow_down"), UNREACHABLE),
    ("openai", 429, openai("credit_balance_exhausted"), LIMITED_),
    ("openai", 429, openai("organization_spend_limit_exceeded"), LIMITED_),
    ("openai", 429, openai("project_spend_limit_exceeded"), LIMITED_),
    ("openai", 429, openai("organization_usage_limit_exceeded"), LIMITED_),
    ("openai", 503, openai("server_is_overloaded"), UNREACHABLE),
    ("openai", 429, openai("insufficient_quota"), LIMITED_),
    ("openai", 429, openai(None, type_="insufficient_quota"), LIMITED_),
    ("anthropic", 200, {"data": []}, VALID),
    ("anthropic", 401, anthropic("authentication_error"), INVALID),
    ("anthropic", 403, anthropic("permission_error"), LIMITED_),
    ("anthropic", 402, anthropic("billing_error"), LIMITED_),
    ("anthropic", 429, anthropic("rate_limit_error"), UNREACHABLE),
    (
        "anthropic",
        429,
        anthropic("rate_limit_error", "enforced_spend_limit_reached"),
        LIMITED_,
    ),
    ("anthropic", 429, anthropic("rate_limit_error", "contract_spend_limit_reached"), LIMITED_),
    ("anthropic", 429, anthropic("rate_limit_error", "ramp_limit_exceeded"), UNREACHABLE),
    ("anthropic", 400, anthropic("invalid_request_error"), UNREACHABLE),
    ("anthropic", 400, anthropic("invalid_request_error", "organization_on_hold"), LIMITED_),
    (
        "anthropic",
        400,
        {"error": {"message": "You have reached your specified workspace API usage limits."}},
        LIMITED_,
    ),
    ("anthropic", 404, anthropic("not_found_error"), UNREACHABLE),
    ("anthropic", 500, anthropic("api_error"), UNREACHABLE),
    ("anthropic", 504, anthropic("timeout_error"), UNREACHABLE),
    ("anthropic", 529, anthropic("overloaded_error"), UNREACHABLE),
    ("gemini", 200, {"models": []}, VALID),
    ("gemini", 400, gemini("API_KEY_INVALID"), INVALID),
    ("gemini", 400, [gemini("API_KEY_INVALID")], INVALID),
    ("gemini", 401, gemini(None), INVALID),
    ("gemini", 401, gemini("ACCESS_TOKEN_TYPE_UNSUPPORTED"), INVALID),
    ("gemini", 400, {"error": {"status": "FAILED_PRECONDITION"}}, LIMITED_),
    ("gemini", 403, gemini("CONSUMER_SUSPENDED"), LIMITED_),
    ("gemini", 403, gemini("SERVICE_DISABLED"), LIMITED_),
    ("gemini", 404, gemini(None), UNREACHABLE),
    ("gemini", 400, gemini("SOMETHING_ELSE"), UNREACHABLE),
    ("gemini", 403, gemini("API_KEY_SERVICE_BLOCKED"), LIMITED_),
    ("gemini", 402, gemini(None), LIMITED_),
    ("gemini", 429, gemini("RATE_LIMIT_EXCEEDED"), UNREACHABLE),
    ("elevenlabs", 200, {"tier": "creator"}, VALID),
    ("elevenlabs", 401, elevenlabs("invalid_api_key"), INVALID),
    ("elevenlabs", 401, elevenlabs("invalid_api_key", "code"), INVALID),
    ("elevenlabs", 401, elevenlabs("missing_permissions"), LIMITED_),
    ("elevenlabs", 403, elevenlabs("missing_permissions"), LIMITED_),
    ("elevenlabs", 401, elevenlabs("quota_exceeded"), LIMITED_),
    ("elevenlabs", 401, elevenlabs("detected_unusual_activity"), LIMITED_),
    ("elevenlabs", 401, {"detail": {"status": "missing_permissions", "code": "x"}}, LIMITED_),
    ("elevenlabs", 402, elevenlabs("paid_plan_required", "code"), LIMITED_),
    ("elevenlabs", 403, elevenlabs("only_for_creator+"), LIMITED_),
    ("elevenlabs", 404, {"detail": "Not Found"}, UNREACHABLE),
    ("elevenlabs", 422, {"detail": [{"loc": ["body"], "type": "missing"}]}, UNREACHABLE),
    ("elevenlabs", 429, elevenlabs("too_many_concurrent_requests"), UNREACHABLE),
    ("elevenlabs", 429, elevenlabs("system_busy"), UNREACHABLE),
    *[
        (name, status, None, UNREACHABLE)
        for name in ("openai", "anthropic", "gemini", "elevenlabs")
        for status in (408, 425, 429, 500, 502, 503, 504, 529)
    ],
    *[(name, 403, None, LIMITED_) for name in ("openai", "anthropic", "gemini", "elevenlabs")],
]


@pytest.mark.parametrize(("name", "status", "body", "expected"), ANSWERS)
def test_each_answer_is_told_apart(name: str, status: int, body: Any, expected: KeyStatus) -> None:
    assert vendors[name].read_check(status, body).status == expected


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("openai", 429, openai("insufficient_quota")),
        ("anthropic", 402, anthropic("billing_error")),
        ("gemini", 402, None),
        ("elevenlabs", 401, elevenlabs("quota_exceeded")),
    ],
)
def test_a_key_without_credit_is_told_from_one_without_permission(
    name: str, status: int, body: Any
) -> None:
    assert vendors[name].read_check(status, body) is NO_QUOTA is not LIMITED


def test_openais_models_say_what_a_key_can_do() -> None:
    ids = ["gpt-4", "gpt-3.5-turbo", "gpt-4o-audio-preview", "whisper-1", "text-embedding-3-small"]
    check = vendors["openai"].read_check(200, {"data": [{"id": id_} for id_ in ids]})
    assert check.models == ("gpt-3.5-turbo", "gpt-4")
    assert check.capabilities == ("code_interpreter", "function_calling", "gpt_3_5", "gpt_4")


def test_openais_newer_models_see() -> None:
    check = vendors["openai"].read_check(200, {"data": [{"id": "gpt-6-luna"}, {"id": "o3"}]})
    assert set(check.capabilities) >= {"gpt_6", "multimodal", "function_calling"}


def test_openais_models_past_their_last_day_are_left_out() -> None:
    days = {"gone": "2024-01-31", "going": "9999-12-31", "odd": "soon", "stays": None}
    rows = [{"id": name, "shutdown_date": day} for name, day in days.items()]
    check = vendors["openai"].read_check(200, {"data": rows})
    assert check.models == ("going", "odd", "stays")
    assert check.capabilities == ()


def test_anthropics_models_say_what_a_key_can_do() -> None:
    rows = [
        {"id": "claude-opus-b", "max_input_tokens": 200_000},
        {"id": "claude-haiku-a", "capabilities": {"image_input": {"supported": True}}},
        {"id": "claude-old", "lifecycle": "retired"},
    ]
    check = vendors["anthropic"].read_check(200, {"data": rows})
    assert check.models == ("claude-haiku-a", "claude-opus-b")
    assert check.capabilities == (
        "claude_haiku",
        "claude_opus",
        "code_analysis",
        "ethical_reasoning",
        "function_calling",
        "long_context",
        "multimodal",
        "text_generation",
    )


def test_geminis_models_say_what_a_key_can_do() -> None:
    generates = {"supportedGenerationMethods": ["generateContent"]}
    rows = [
        {"name": "models/gemini-4-b", **generates},
        {"name": "models/gemini-a", **generates},
        {"name": "models/gemini-a-tts", **generates},
        {"name": "models/text-embedding", "supportedGenerationMethods": ["embedContent"]},
    ]
    check = vendors["gemini"].read_check(200, {"models": rows})
    assert check.models == ("gemini-4-b", "gemini-a")
    assert check.capabilities == (
        "code_generation",
        "function_calling",
        "gemini_4",
        "multimodal",
        "text_generation",
    )


def test_geminis_open_models_are_credited_with_nothing_they_may_lack() -> None:
    row = {"name": "models/gemma-9", "supportedGenerationMethods": ["generateContent"]}
    check = vendors["gemini"].read_check(200, {"models": [row]})
    assert check.capabilities == ("code_generation", "text_generation")


def test_elevenlabs_subscription_says_what_a_key_can_do() -> None:
    plan = {"can_use_instant_voice_cloning": True, "can_use_professional_voice_cloning": False}
    check = vendors["elevenlabs"].read_check(200, plan)
    assert check.capabilities == ("realtime", "text_to_speech", "voice_cloning")


PLAN = {
    "tier": "creator",
    "status": "active",
    "character_count": 1200,
    "character_limit": 100_000,
    "voice_slots_used": 3,
    "voice_limit": 30,
}
HER_VOICES = {"voices": [{"category": "premade"}, {"category": "cloned"}, {"category": "cloned"}]}
HIS_MODELS = [
    {"model_id": "eleven_v4", "can_do_text_to_speech": True},
    {"model_id": "eleven_sts", "can_do_text_to_speech": False},
]


def further(check: Check, **answers: tuple[int, Any]) -> Check:
    paths = {"voices": VOICES, "models": MODELS}
    given = {paths[name]: Answer(*answer) for name, answer in answers.items()}
    return vendors["elevenlabs"].read_further(check, given)


def test_elevenlabs_further_answers_say_how_much_there_is() -> None:
    check = vendors["elevenlabs"].read_check(200, PLAN)
    told = further(check, voices=(200, HER_VOICES), models=(200, HIS_MODELS))
    assert told.status is VALID
    assert told.models == ("eleven_v4",)
    assert told.details == {
        "plan": "creator",
        "plan_status": "active",
        "characters_used": 1200,
        "characters_limit": 100_000,
        "voice_slots_used": 3,
        "voice_slots": 30,
        "voices": 3,
        "cloned_voices": 2,
    }


@pytest.mark.parametrize("refused", [401, 403, 500])
def test_a_further_call_that_is_refused_takes_nothing_back(refused: int) -> None:
    check = vendors["elevenlabs"].read_check(200, PLAN)
    told = further(check, voices=(refused, elevenlabs("missing_permissions")))
    assert (told.status, told.details) == (VALID, check.details)


def test_a_key_that_may_not_read_its_plan_is_limited_and_still_says_what_it_can() -> None:
    check = vendors["elevenlabs"].read_check(401, elevenlabs("missing_permissions"))
    told = further(check, voices=(200, HER_VOICES), models=(200, HIS_MODELS))
    assert told.status is LIMITED_
    assert told.error == LIMITED.error
    assert told.capabilities == ("realtime", "text_to_speech")
    assert told.details == {"voices": 3, "cloned_voices": 2}


@pytest.mark.parametrize("name", vendors)
def test_a_key_travels_in_a_header_alone(name: str) -> None:
    vendor = vendors[name]
    headers = vendor.key_headers("the-key")
    assert any("the-key" in value for value in headers.values())
    assert all("key" not in path.lower() for path in (vendor.check_path, *vendor.further_paths))
    assert vendor.base_url.startswith("https://")
    assert all(header == header.lower() for header in headers)


@pytest.mark.parametrize("name", vendors)
def test_no_vendors_words_reach_a_user(name: str) -> None:
    for status in (400, 401, 402, 403, 429, 500):
        error = vendors[name].read_check(status, {"error": {"message": "sk-secret"}}).error
        assert error is not None
        assert "sk-secret" not in error


@pytest.mark.parametrize("rows", [None, 5, "text", {"id": "x"}, [None, 5, "x", [], {}]])
def test_a_list_of_another_shape_names_no_model(rows: Any) -> None:
    for name in vendors:
        check = vendors[name].read_check(200, {"data": rows, "models": rows})
        assert (check.status, check.models) == (VALID, ())


def test_a_gemini_model_whose_methods_are_unreadable_is_left_out() -> None:
    rows = [{"name": "models/a", "supportedGenerationMethods": methods} for methods in (5, None)]
    assert vendors["gemini"].read_check(200, {"models": rows}).models == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "detail",
                    "details",
                    "data",
                    "models",
                    "id",
                    "name",
                    "code",
                    "status",
                    "capabilities",
                    "image_input",
                    "max_input_tokens",
                    "supportedGenerationMethods",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    name=st.sampled_from(sorted(vendors)), status=st.sampled_from([200, 400, 401, 403]), body=JSON
)
def test_any_body_is_read(name: str, status: int, body: Any) -> None:
    check = vendors[name].read_check(status, body)
    answers = {path: Answer(200, body) for path in vendors[name].further_paths}
    assert vendors[name].read_further(check, answers).status is check.status
    assert (check.status == VALID) == (status == 200)
