"""What a tool's description must be, so that no vendor refuses it for its form.

A schema's structure is checked, not its meaning: vendors differ in the keywords that they know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from services.chat.domain.content import Tool
from services.chat.domain.errors import BadSchema, BadTool

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
MOST_TOOLS = 64
LARGEST_SCHEMA_BYTES = 32_768
DEEPEST_SCHEMA = 16

_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_OF_ONE = ("items", "additionalProperties", "not", "contains", "if", "then", "else")
_OF_NAMES = ("properties", "patternProperties", "$defs", "definitions")
_OF_MANY = ("anyOf", "oneOf", "allOf", "prefixItems")


def check_tools(tools: Sequence[Tool]) -> None:
    """Raises BadTool or BadSchema."""
    names: set[str] = set()
    for number, tool in enumerate(tools, 1):
        if not TOOL_NAME.match(tool.name):
            raise BadTool("A tool's name has 1 to 64 letters, digits, - and _.", number)
        if tool.name in names:
            raise BadTool("Two tools have the same name.", number)
        names.add(tool.name)
        if tool.parameters is not None:
            check_schema(tool.parameters, f"tool {number}")


def check_schema(schema: Mapping[str, Any], name: str) -> None:
    """A JSON schema of an object. Raises BadSchema."""
    # Depth first: what is too deep can't be written as JSON.
    _check(schema, name, DEEPEST_SCHEMA)
    try:
        size = len(orjson.dumps(schema))
    except TypeError as error:
        raise BadSchema("A schema holds only what JSON can say.", name) from error
    if size > LARGEST_SCHEMA_BYTES:
        raise BadSchema(f"A schema has at most {LARGEST_SCHEMA_BYTES} bytes of JSON.", name)
    if schema.get("type", "object") != "object":
        raise BadSchema("It has to be a schema of an object.", name)


def _check(schema: Any, name: str, depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise BadSchema("A schema is an object, in all its parts.", name)
    if depth == 0:
        raise BadSchema(f"A schema is at most {DEEPEST_SCHEMA} levels deep.", name)
    _check_words(schema, name)
    for part in _parts(schema, name):
        _check(part, name, depth - 1)
    # What stands in other places, such as `enum` and `default`, is data of any form.
    _check_depth([v for k, v in schema.items() if k not in _PLACES], name, depth)


_PLACES = frozenset({*_OF_ONE, *_OF_NAMES, *_OF_MANY})


def _check_words(schema: Mapping[str, Any], name: str) -> None:
    kinds = schema.get("type", [])
    listed = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(listed, list) or not all(kind in _TYPES for kind in map(str, listed)):
        raise BadSchema("A schema's type is one of JSON's, or a list of them.", name)
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(one, str) for one in required):
        raise BadSchema("A schema's required is a list of names.", name)
    if not isinstance(schema.get("enum", []), list):
        raise BadSchema("A schema's enum is a list.", name)


def _parts(schema: Mapping[str, Any], name: str) -> list[Any]:
    parts = [schema[word] for word in _OF_ONE if word in schema]
    for word in _OF_NAMES:
        named = schema.get(word, {})
        if not isinstance(named, Mapping):
            raise BadSchema(f"A schema's {word} is an object.", name)
        parts += named.values()
    for word in _OF_MANY:
        many = schema.get(word, [])
        if not isinstance(many, list):
            raise BadSchema(f"A schema's {word} is a list.", name)
        parts += many
    return parts


def _check_depth(value: Any, name: str, depth: int) -> None:
    if not isinstance(value, Mapping | list):
        return
    if depth == 0:
        raise BadSchema(f"A schema is at most {DEEPEST_SCHEMA} levels deep.", name)
    for part in value.values() if isinstance(value, Mapping) else value:
        _check_depth(part, name, depth - 1)
