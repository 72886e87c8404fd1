"""A tool's description is checked for its form, whatever it is made of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain.content import Tool
from services.chat.domain.errors import BadSchema, BadTool
from services.chat.domain.tool_rules import (
    DEEPEST_SCHEMA,
    LARGEST_SCHEMA_BYTES,
    check_schema,
    check_tools,
)

GOOD: list[dict[str, Any]] = [
    {},
    {"type": "object"},
    {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    {
        "type": "object",
        "properties": {
            "place": {"type": ["string", "null"], "enum": ["here", None], "default": {"a": [1]}},
            "many": {"type": "array", "items": {"anyOf": [{"type": "number"}, True]}},
            "properties": {"$ref": "#/$defs/x"},
        },
        "$defs": {"x": {"type": "object"}},
    },
]

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "anyOf", "required", "enum", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@pytest.mark.parametrize("schema", GOOD)
def test_a_good_schema_passes(schema: dict[str, Any]) -> None:
    check_schema(schema, "tool")


@given(st.dictionaries(st.sampled_from(["type", "properties", "items", "allOf"]), _json))
def test_any_other_gets_one_clear_error(schema: dict[str, Any]) -> None:
    try:
        check_schema(schema, "tool")
    except BadSchema as refused:
        assert refused.facts == {"of": "tool"}


def test_depth_has_an_end() -> None:
    def nested(levels: int) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "object"}
        for _ in range(levels - 1):
            schema = {"type": "object", "properties": {"a": schema}}
        return schema

    check_schema(nested(DEEPEST_SCHEMA), "tool")
    with pytest.raises(BadSchema, match="levels"):
        check_schema(nested(DEEPEST_SCHEMA + 1), "tool")


def test_data_within_a_schema_has_the_same_end() -> None:
    def with_default(levels: int, *, of: type) -> dict[str, Any]:
        value: Any = 1
        for _ in range(levels):
            value = {"a": value} if of is dict else [value]
        return {"type": "object", "default": value}

    for of in (dict, list):
        check_schema(with_default(DEEPEST_SCHEMA - 1, of=of), "tool")
        with pytest.raises(BadSchema, match="levels"):
            check_schema(with_default(DEEPEST_SCHEMA, of=of), "tool")


def test_a_schema_is_one_of_an_object_and_not_too_large() -> None:
    with pytest.raises(BadSchema, match="of an object"):
        check_schema({"type": "string"}, "tool")
    rest = len(b'{"description":""}')
    check_schema({"description": "x" * (LARGEST_SCHEMA_BYTES - rest)}, "tool")
    with pytest.raises(BadSchema, match="bytes"):
        check_schema({"description": "x" * (LARGEST_SCHEMA_BYTES - rest + 1)}, "tool")


def test_whose_schema_is_wrong_is_told_by_its_number() -> None:
    with pytest.raises(BadSchema) as refused:
        check_tools([Tool("a"), Tool("b", parameters={"type": "string"})])
    assert refused.value.facts == {"of": "tool 2"}
    with pytest.raises(BadTool) as unnamed:
        check_tools([Tool("a"), Tool("")])
    assert unnamed.value.facts == {"tool": 2}


@pytest.mark.parametrize("name", ["", "a b", "a\n", "ä", "a" * 65, "a.b"])
def test_a_name_is_what_all_vendors_take(name: str) -> None:
    with pytest.raises(BadTool):
        check_tools([Tool(name)])


def test_names_are_used_once() -> None:
    check_tools([Tool("a"), Tool("b")])
    with pytest.raises(BadTool, match="same name"):
        check_tools([Tool("a"), Tool("a")])
