"""Every way in which a vendor says no, as its own SDK understands it."""

from collections.abc import Callable
from typing import Any, Final

import anthropic
import httpx
import openai
import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from google import genai
from google.genai import errors

from tests.support.simulator.anthropic.errors import REFUSALS as ANTHROPIC
from tests.support.simulator.elevenlabs.errors import REFUSALS as ELEVENLABS
from tests.support.simulator.gemini.errors import REFUSALS as GEMINI
from tests.support.simulator.openai.errors import REFUSALS as OPENAI
from tests.support.simulator.process import RunningSimulator

EVERYWHERE: Final = {
    "bad_gateway",
    "bad_request",
    "conflict",
    "gateway_timeout",
    "invalid_key",
    "missing_scope",
    "model_not_found",
    "no_key",
    "overloaded",
    "permission",
    "quota",
    "rate_limit",
    "region",
    "server_error",
    "too_large",
    "unavailable",
}
VOICE: Final = "21m00Tcm4TlvDq8ikWAM"


@pytest.mark.parametrize("refusals", [OPENAI, ANTHROPIC, GEMINI, ELEVENLABS])
def test_every_vendor_has_the_common_kinds(refusals: dict[str, Any]) -> None:
    assert refusals.keys() >= EVERYWHERE


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [
        ("bad_request", openai.BadRequestError, None),
        ("context_length", openai.BadRequestError, "context_length_exceeded"),
        ("invalid_key", openai.AuthenticationError, "invalid_api_key"),
        ("missing_scope", openai.AuthenticationError, None),
        ("missing_scope_403", openai.PermissionDeniedError, None),
        ("not_member", openai.AuthenticationError, None),
        ("region", openai.PermissionDeniedError, "unsupported_country_region_territory"),
        ("model_not_found", openai.NotFoundError, "model_not_found"),
        ("conflict", openai.ConflictError, None),
        ("too_large", openai.APIStatusError, None),
        ("rate_limit", openai.RateLimitError, "rate_limit_exceeded"),
        ("slow_down", openai.RateLimitError, "slow_down"),
        ("quota", openai.RateLimitError, "insufficient_quota"),
        ("credit_exhausted", openai.RateLimitError, "credit_balance_exhausted"),
        ("organization_spend_limit", openai.RateLimitError, "organization_spend_limit_exceeded"),
        ("project_spend_limit", openai.RateLimitError, "project_spend_limit_exceeded"),
        ("organization_usage_limit", openai.RateLimitError, "organization_usage_limit_exceeded"),
        ("server_error", openai.InternalServerError, None),
        ("overloaded", openai.InternalServerError, "server_is_overloaded"),
        ("status_418", openai.APIStatusError, None),
        ("html_502", openai.InternalServerError, None),
    ],
)
def test_openai_refuses(
    openai: openai.OpenAI, kind: str, error: type[openai.APIStatusError], code: str | None
) -> None:
    with pytest.raises(error) as refused:
        openai.chat.completions.create(
            model="gpt-6-luna",
            messages=[{"role": "user", "content": f"hi [[sim:fault={kind}]]"}],
        )
    assert refused.value.code == code
    assert refused.value.request_id
    if kind in OPENAI:
        assert refused.value.status_code == OPENAI[kind].status


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [
        ("bad_request", anthropic.BadRequestError, None),
        ("usage_limit", anthropic.BadRequestError, None),
        ("organization_on_hold", anthropic.BadRequestError, "organization_on_hold"),
        ("invalid_key", anthropic.AuthenticationError, None),
        ("quota", anthropic.APIStatusError, None),
        ("permission", anthropic.PermissionDeniedError, None),
        ("model_not_found", anthropic.NotFoundError, None),
        ("conflict", anthropic.ConflictError, None),
        ("too_large", anthropic.APIStatusError, None),
        ("rate_limit", anthropic.RateLimitError, None),
        ("ramp_limit", anthropic.RateLimitError, "ramp_limit_exceeded"),
        ("spend_limit", anthropic.RateLimitError, "enforced_spend_limit_reached"),
        ("contract_spend_limit", anthropic.RateLimitError, "contract_spend_limit_reached"),
        ("server_error", anthropic.InternalServerError, None),
        ("unavailable", anthropic.InternalServerError, None),
        ("gateway_timeout", anthropic.InternalServerError, None),
        ("overloaded", anthropic.InternalServerError, None),
        ("html_502", anthropic.InternalServerError, None),
    ],
)
def test_anthropic_refuses(
    anthropic: anthropic.Anthropic,
    kind: str,
    error: type[anthropic.APIStatusError],
    code: str | None,
) -> None:
    with pytest.raises(error) as refused:
        anthropic.messages.create(
            model="claude-haiku-5-5",
            max_tokens=9,
            messages=[{"role": "user", "content": f"hi [[sim:fault={kind}]]"}],
        )
    assert refused.value.error_code == code
    assert refused.value.request_id
    if kind in ANTHROPIC:
        assert refused.value.status_code == ANTHROPIC[kind].status
    if kind == "spend_limit":
        assert "retry-after" not in refused.value.response.headers


@pytest.mark.parametrize("kind", sorted(GEMINI))
def test_gemini_refuses(gemini: genai.Client, kind: str) -> None:
    with pytest.raises(errors.APIError) as refused:
        gemini.models.generate_content(
            model="gemini-3.8-flash", contents=f"hi [[sim:fault={kind}]]"
        )
    assert refused.value.code == GEMINI[kind].status
    assert refused.value.status == GEMINI[kind].body["error"]["status"]


def test_gemini_can_wrap_an_error_in_a_list(gemini: genai.Client) -> None:
    with pytest.raises(errors.ClientError) as refused:
        gemini.models.generate_content(
            model="gemini-3.8-flash", contents="hi [[sim:fault=rate_limit,wrapped]]"
        )
    assert refused.value.status == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("kind", sorted(ELEVENLABS))
def test_elevenlabs_refuses(elevenlabs: ElevenLabs, kind: str) -> None:
    with pytest.raises(ApiError) as refused:
        b"".join(
            elevenlabs.text_to_speech.convert(
                VOICE,
                text=f"hi [[sim:fault={kind}]]",
                request_options={"max_retries": 0},
            )
        )
    assert refused.value.status_code == ELEVENLABS[kind].status


@pytest.mark.parametrize(
    ("form", "shape"),
    [("string", str), ("list", list), ("old", dict), ("object", dict)],
)
async def test_elevenlabs_has_three_forms_of_detail(
    http: httpx.AsyncClient, key: str, form: str, shape: type[Any]
) -> None:
    refused = await http.post(
        f"/elevenlabs/v1/text-to-speech/{VOICE}",
        headers={"xi-api-key": key},
        json={"text": f"hi [[sim:fault=quota,form={form}]]"},
    )
    detail: Any = refused.json()["detail"]
    assert type(detail) is shape
    if form == "old":
        assert detail.keys() == {"status", "message"}
    if form == "object":
        assert detail["request_id"] == refused.headers["request-id"]


async def test_waiting_times_can_be_set(http: httpx.AsyncClient, key: str) -> None:
    asked = "hi [[sim:fault=rate_limit,retry_after=7,retry_after_ms=6500,should_retry=false]]"
    refused = await http.post(
        "/openai/v1/chat/completions",
        headers={"authorization": f"Bearer {key}"},
        json={"model": "gpt-6-luna", "messages": [{"role": "user", "content": asked}]},
    )
    assert refused.headers["retry-after"] == "7"
    assert refused.headers["retry-after-ms"] == "6500"
    assert refused.headers["x-should-retry"] == "false"


async def test_a_misspelt_directive_is_refused(http: httpx.AsyncClient, key: str) -> None:
    for asked in ("[[sim:chunk=5]]", "[[sim:chunks=many]]", "[[sim:fault=nonsense]]"):
        refused = await http.post(
            "/openai/v1/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json={"model": "gpt-6-luna", "messages": [{"role": "user", "content": asked}]},
        )
        assert refused.status_code == 400, asked


Check = Callable[[str], httpx.Request]
CHECKS: Final[dict[str, Check]] = {
    "openai": lambda key: httpx.Request(
        "GET", "/openai/v1/models", headers={"authorization": f"Bearer {key}"}
    ),
    "anthropic": lambda key: httpx.Request(
        "GET",
        "/anthropic/v1/models?limit=1",
        headers={"x-api-key": key, "anthropic-version": "2026-10-21"},
    ),
    "gemini": lambda key: httpx.Request(
        "GET", "/gemini/v1/models?pageSize=1", headers={"x-goog-api-key": key}
    ),
    "elevenlabs": lambda key: httpx.Request(
        "GET", "/elevenlabs/v1/user/subscription", headers={"xi-api-key": key}
    ),
}


async def check(http: httpx.AsyncClient, vendor: str, key: str) -> httpx.Response:
    request = CHECKS[vendor](key)
    return await http.request("GET", str(request.url), headers=request.headers)


@pytest.mark.parametrize(
    ("vendor", "key", "status", "told"),
    [
        ("openai", "sim-invalid-1", 401, "invalid_api_key"),
        ("openai", "sim-limited-1", 401, "Missing scopes: api.model.read"),
        ("openai", "sim-noquota-1", 429, "insufficient_quota"),
        ("openai", "sim-unreachable-1", 503, "service_unavailable_error"),
        ("anthropic", "sim-invalid-1", 401, "authentication_error"),
        ("anthropic", "sim-limited-1", 403, "permission_error"),
        ("anthropic", "sim-noquota-1", 402, "billing_error"),
        ("anthropic", "sim-unreachable-1", 503, "api_error"),
        ("gemini", "sim-invalid-1", 400, "API_KEY_INVALID"),
        ("gemini", "sim-limited-1", 403, "PERMISSION_DENIED"),
        ("gemini", "sim-noquota-1", 402, "RESOURCE_EXHAUSTED"),
        ("gemini", "sim-unreachable-1", 503, "UNAVAILABLE"),
        ("elevenlabs", "sim-invalid-1", 401, "invalid_api_key"),
        ("elevenlabs", "sim-limited-1", 401, "missing the permission user_read"),
        ("elevenlabs", "sim-noquota-1", 401, "quota_exceeded"),
        ("elevenlabs", "sim-unreachable-1", 503, "service_unavailable"),
    ],
)
async def test_a_key_says_what_it_is_worth(
    http: httpx.AsyncClient, vendor: str, key: str, status: int, told: str
) -> None:
    refused = await check(http, vendor, key)
    assert refused.status_code == status
    assert told in refused.text
    assert key not in refused.text


@pytest.mark.parametrize("vendor", CHECKS)
async def test_a_good_key_opens_the_door(http: httpx.AsyncClient, vendor: str, key: str) -> None:
    assert (await check(http, vendor, key)).status_code == 200
    assert (await check(http, vendor, "sim-limited-generate-1")).status_code == 200
    with pytest.raises(httpx.TransportError):
        await check(http, vendor, "sim-unreachable-reset-1")


@pytest.mark.parametrize("vendor", CHECKS)
async def test_a_call_without_a_key_is_refused(http: httpx.AsyncClient, vendor: str) -> None:
    path = str(CHECKS[vendor]("unused").url)
    refused = await http.get(path, headers={"anthropic-version": "2026-10-21"})
    assert refused.status_code == (403 if vendor == "gemini" else 401)


async def test_a_key_can_be_limited_to_reading(
    http: httpx.AsyncClient, simulator: RunningSimulator
) -> None:
    async def ask(key: str) -> httpx.Response:
        return await http.post(
            "/gemini/v1/models/gemini-3.8-flash:generateContent",
            headers={"x-goog-api-key": key},
            json={"contents": [{"parts": [{"text": "hi"}]}]},
        )

    assert (await ask("sim-limited-generate-2")).status_code == 403
    assert (await ask("sim-limited-read-2")).status_code == 200
    (refused,) = simulator.served(key="sim-limited-generate-2")
    assert (refused["outcome"], refused["status"]) == ("error", 403)
    assert refused["model"] == "gemini-3.8-flash"


@pytest.mark.parametrize("headers", [{"x-api-key": "{key}"}, {"authorization": "Bearer {key}"}])
async def test_anthropic_takes_both_credentials_and_wants_a_version(
    http: httpx.AsyncClient, key: str, headers: dict[str, str]
) -> None:
    given = {name: value.format(key=key) for name, value in headers.items()}
    version = {"anthropic-version": "2023-06-01"}
    path = "/anthropic/v1/models"
    assert (await http.get(path, headers=given | version)).status_code == 200
    assert (await http.get(path, headers=given)).status_code == 400
    from_browser = await http.get(path, headers={**given, **version, "origin": "https://x.test"})
    assert from_browser.status_code == 401
    both = {"x-api-key": "sim-invalid-1", "authorization": f"Bearer {key}"}
    assert (await http.get(path, headers=both | version)).status_code == 401


async def test_gemini_refuses_two_credentials(http: httpx.AsyncClient, key: str) -> None:
    both = {"x-goog-api-key": key, "authorization": f"Bearer {key}"}
    refused = await http.get("/gemini/v1/models", headers=both)
    assert refused.status_code == 400
    assert "Multiple authentication credentials" in refused.text


@pytest.mark.parametrize("vendor", CHECKS)
async def test_unknown_paths_and_broken_bodies(
    http: httpx.AsyncClient, vendor: str, key: str
) -> None:
    headers = CHECKS[vendor](key).headers
    assert (await http.get(f"/{vendor}/v1/nothing", headers=headers)).status_code == 404
    paths = {
        "openai": "/openai/v1/chat/completions",
        "anthropic": "/anthropic/v1/messages",
        "gemini": "/gemini/v1/models/gemini-3.8-flash:generateContent",
        "elevenlabs": f"/elevenlabs/v1/text-to-speech/{VOICE}",
    }
    for body in (b"{", b"[]", b""):
        assert (await http.post(paths[vendor], headers=headers, content=body)).status_code == 400
