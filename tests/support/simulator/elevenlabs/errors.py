"""ElevenLabs' refusals: `detail` is a string, an object or a list; match `status`, then `code`."""

from typing import Final

from tests.support.simulator.refusals import Refusal

_TYPES: Final = {
    400: "validation_error",
    401: "authentication_error",
    402: "payment_required",
    403: "authorization_error",
    404: "not_found",
    422: "validation_error",
    425: "too_early",
    429: "rate_limit_error",
}
_PERMISSIONS: Final = (
    ("/v1/user", "user_read"),
    ("/v1/models", "models_read"),
    ("/v1/text-to-speech", "text_to_speech"),
    ("/v1/text-to-dialogue", "text_to_speech"),
)


def problem(
    status: int, name: str, message: str, *, code: str | None = None, param: str | None = None
) -> Refusal:
    detail = {
        "type": _TYPES.get(status, "server_error" if status >= 500 else "validation_error"),
        "code": code or name,
        "status": name,
        "message": message,
    }
    return Refusal(status, {"detail": {**detail, **({"param": param} if param else {})}})


def missing_permission(path: str, status: int) -> Refusal:
    permission = next(
        (name for start, name in _PERMISSIONS if path.startswith(start)), "voices_read"
    )
    message = (
        f"The API key you used is missing the permission {permission} to execute this operation."
    )
    return problem(status, "missing_permissions", message, code="insufficient_permissions")


def invalid(*places: str, message: str = "Field required", kind: str = "missing") -> Refusal:
    """The list form, as the validation of a body answers."""
    detail = [{"loc": list(places), "msg": message, "type": kind, "input": None}]
    return Refusal(422, {"detail": detail})


def no_voice(voice: str, status: int = 404) -> Refusal:
    message = f"A voice with voice_id '{voice}' was not found."
    return problem(status, "voice_not_found", message, param="voice_id")


REFUSALS: Final[dict[str, Refusal]] = {
    "no_key": problem(
        401,
        "needs_authorization",
        "Neither authorization header nor xi-api-key received, please provide one.",
    ),
    "invalid_key": problem(401, "invalid_api_key", "Invalid API key"),
    "missing_scope": missing_permission("", 401),
    "missing_scope_403": missing_permission("", 403),
    "quota": problem(
        401, "quota_exceeded", "This request exceeds your quota. You have 0 credits remaining."
    ),
    "unusual_activity": problem(
        401, "detected_unusual_activity", "Unusual activity detected. Free Tier usage disabled."
    ),
    "permission": problem(403, "only_for_creator+", "This is only for creators and above."),
    "only_for_creator": problem(403, "only_for_creator+", "This is only for creators and above."),
    "region": problem(403, "forbidden_region", "Not available in your region."),
    "plan_required": problem(
        402,
        "payment_required",
        "Free users cannot use library voices via the API.",
        code="paid_plan_required",
    ),
    "bad_request": problem(400, "invalid_uid", "An invalid ID has been received.", param="id"),
    "character_limit": problem(400, "max_character_limit_exceeded", "The text is too long."),
    "voice_not_found": no_voice("unknown", 400),
    "not_found": no_voice("unknown"),
    "model_not_found": problem(400, "model_not_found", "A model with that id does not exist."),
    "validation": invalid("body", "text"),
    "validation_object": problem(422, "invalid_parameters", "Invalid parameters.", param="text"),
    "conflict": problem(409, "conflict", "The request conflicts with another one."),
    "too_large": problem(413, "upload_file_size_exceeded", "The request is too large."),
    "too_early": problem(425, "too_early", "Too early."),
    "rate_limit": problem(
        429, "too_many_concurrent_requests", "Too many concurrent requests for your plan."
    ),
    "concurrent_limit": problem(
        429,
        "too_many_concurrent_requests",
        "Too many concurrent requests for your plan.",
        code="concurrent_limit_exceeded",
    ),
    "overloaded": problem(429, "system_busy", "The system is under heavy load, please try again."),
    "server_error": problem(500, "internal_server_error", "Something went wrong."),
    "bad_gateway": problem(502, "bad_gateway", "Bad gateway."),
    "unavailable": problem(503, "service_unavailable", "The service is unavailable."),
    "gateway_timeout": problem(504, "gateway_timeout", "The request timed out."),
}
