"""Sums in answers, told twice: whole micro-dollars, and a decimal string of dollars beside them;
and what is sent back of such an answer."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from fractions import Fraction
from functools import reduce
from inspect import get_annotations
from operator import or_
from types import GenericAlias, SimpleNamespace
from typing import Any, Self, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    computed_field,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import CoreSchema

from shared.money import MicroDollars, dollars_text

_MICRO, _WHOLE = "microusd", "usd"
# As answers tell it, or with fewer zeros.
_DOLLARS = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?", re.ASCII)


class DollarsBeside(BaseModel):
    """An answer whose every field `…microusd…` has the same in dollars beside it, under that name
    with `usd`: a string with six places, null for null, a list for a list.

    They are no fields to make one from, only part of what is written and of its schema. A twin that
    a body declares by itself stays what it is. Not for what is read: that is `DollarsAgree`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        # Before pydantic looks for computed fields, which it does once the class is there.
        super().__init_subclass__(**options)
        for name, kind in _sums_of(cls).items():
            twin = name.replace(_MICRO, _WHOLE)
            if not _has(cls, twin):
                setattr(cls, twin, _twin_of(name, kind))


class DollarsAgree(BaseModel):
    """A request whose every field `…microusd…` may have the same in dollars beside it, as answers
    do, so that an answer can be changed and sent back. The micro-dollars count. Dollars that are
    worth something else, or stand without their micro-dollars, are refused, each by its name.

    They are no fields of the request: only its schema names them.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _agreed(cls, told: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        twins = _twins_of(cls)
        if not isinstance(told, dict) or not twins.keys() & told.keys():
            return read(told)
        request = read({name: value for name, value in told.items() if name not in twins})
        wrong = [
            InitErrorDetails(type=problem, loc=(twin,), input=told[twin])
            for twin, name in twins.items()
            if twin in told and (problem := _disagreement(request, name, told[twin]))
        ]
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return request

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for twin, name in _twins_of(cls).items():
            properties[twin] = _schema_beside(properties[name], name)
        return schema


def in_dollars(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs beside the micro-dollars among these facts; nothing where there are none."""
    return {
        name.replace(_MICRO, _WHOLE): _told(fact) for name, fact in facts.items() if _MICRO in name
    }


def _sums_of(cls: type) -> dict[str, Any]:
    """The fields in micro-dollars with their types, those that it inherits as well."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        own = get_annotations(base)
        sums = {name: kind for name, kind in own.items() if _MICRO in name}
        # Only theirs: another field may be of a type that is not there yet.
        told = SimpleNamespace(__annotations__=sums)
        found |= get_type_hints(told, vars(sys.modules[base.__module__]))
    return found


def _twins_of(request: type[BaseModel]) -> dict[str, str]:
    """What may stand beside each field in micro-dollars."""
    names = request.model_fields
    twins = {name.replace(_MICRO, _WHOLE): name for name in names if _MICRO in name}
    return {twin: name for twin, name in twins.items() if twin not in names}


def _disagreement(request: BaseModel, name: str, dollars: Any) -> PydanticCustomError | None:
    if name not in request.model_fields_set:
        return PydanticCustomError(
            "micro_dollars_missing", "needs {field}, which counts", {"field": name}
        )
    if _is_worth(dollars, getattr(request, name)):
        return None
    return PydanticCustomError(
        "dollars_disagree", "should be worth {field}, or be left out", {"field": name}
    )


def _is_worth(dollars: Any, amount: Any) -> bool:
    if isinstance(amount, list):
        return (
            isinstance(dollars, list)
            and len(dollars) == len(amount)
            and all(map(_is_worth, dollars, amount))
        )
    if amount is None or dollars is None:
        return amount is dollars
    return (
        isinstance(dollars, str)
        and _DOLLARS.fullmatch(dollars) is not None
        and Fraction(dollars) * 1_000_000 == amount
    )


def _schema_beside(schema: JsonSchemaValue, name: str) -> JsonSchemaValue:
    """That of the dollars beside such a field: text for a number, otherwise of its form."""
    return {
        "description": f"May be left out. `{name}` counts, and this has to be worth it.",
    } | _as_text(schema)


def _as_text(schema: JsonSchemaValue) -> JsonSchemaValue:
    if "anyOf" in schema:
        return {"anyOf": [_as_text(one) for one in schema["anyOf"]]}
    if schema.get("type") == "array":
        return {"type": "array", "items": _as_text(schema["items"])}
    return {"type": "null" if schema.get("type") == "null" else "string"}


def _has(cls: type, name: str) -> bool:
    return any(name in vars(base) or name in get_annotations(base) for base in cls.__mro__)


def _twin_of(name: str, kind: Any) -> Any:
    def told(body: BaseModel) -> Any:
        return _told(getattr(body, name))

    return computed_field(return_type=_told_as(kind))(property(told))


def _told(amount: Any) -> Any:
    return [_told(one) for one in amount] if isinstance(amount, list) else dollars_text(amount)


def _told_as(kind: Any) -> Any:
    """The type of the strings: of `int | None`, `str | None`."""
    if kind in (int, MicroDollars):
        return str
    if kind is type(None):
        return None
    inner = [_told_as(one) for one in get_args(kind)]
    return GenericAlias(list, tuple(inner)) if get_origin(kind) is list else reduce(or_, inner)
