"""Requests that are not as they have to be, told as OpenAI tells it."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from shared.http.openai_errors import off_schema

SECRET = "sk-of-somebody"


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: Literal["a", "b"] = "a"
    speed: float = 1
    input: str = ""

    @field_validator("input")
    @classmethod
    def _own(cls, value: str) -> str:
        if value == SECRET:
            raise ValueError(value)
        return value


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"model": SECRET}, "model", "model: input should be 'a' or 'b'."),
        ({"speed": SECRET}, "speed", None),
        ({"input": SECRET}, "input", "input: is not acceptable."),
        ({SECRET: 1}, None, None),
    ],
)
def test_it_says_where_and_why_and_never_what_was_sent(
    body: dict[str, Any], param: str | None, message: str | None
) -> None:
    answer = off_schema(failure_of(body))
    error = json.loads(bytes(answer.body))["error"]
    assert answer.status_code == 400
    assert (error["type"], error["code"]) == ("invalid_request_error", "bad_parameter")
    assert error["param"] == param
    assert message in {None, error["message"]}
    assert SECRET.encode() not in bytes(answer.body)


def test_what_is_no_json_has_no_parameter() -> None:
    place = {"type": "json_invalid", "loc": ("body", 5), "msg": "JSON decode error", "input": {}}
    error = json.loads(bytes(off_schema(RequestValidationError([place])).body))["error"]
    assert error["param"] is None
    assert error["message"].startswith("The request: ")


def failure_of(body: dict[str, Any]) -> RequestValidationError:
    with pytest.raises(ValidationError) as refused:
        Body.model_validate(body)
    places = [{**error, "loc": ("body", *error["loc"])} for error in refused.value.errors()]
    return RequestValidationError(places)
