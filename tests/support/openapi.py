"""What a service says of itself in its `openapi.json`: its operations, and bodies that fit them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

_METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
_TEXT = "words"
_BY_FORMAT = {
    "uuid": str(UUID(int=7)),
    "date-time": "2026-11-24T12:00:00Z",
    "date": "2026-11-24",
    "email": "somebody@example.com",
    "uri": "https://example.com/",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    service: str
    method: str
    path: str
    about: Mapping[str, Any] = field(repr=False)
    document: Mapping[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def path_parameters(self) -> tuple[str, ...]:
        return tuple(re.findall(r"\{(\w+)\}", self.path))

    @property
    def body_type(self) -> str | None:
        """The media type of its body, if it takes one."""
        content = self.about.get("requestBody", {}).get("content", {})
        return "application/json" if "application/json" in content else next(iter(content), None)

    def body(self, values: Mapping[str, Any], *, full: bool = False) -> Any:
        """A body that fits; `values` say what stands in a field of that name.

        `full` fills in what may be left out, too.
        """
        body_type = self.body_type
        if body_type is None:
            return None
        schema = self.about["requestBody"]["content"][body_type].get("schema", {})
        return _Sampler(self.document, values, full).of(schema)

    def query(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What it needs in its query."""
        sampler = _Sampler(self.document, values, full=False)
        return {
            one["name"]: sampler.of(one.get("schema", {}), one["name"])
            for one in self.about.get("parameters", ())
            if one["in"] == "query" and one.get("required")
        }


def operations(service: str, document: Mapping[str, Any]) -> list[Operation]:
    """Every operation that a document names."""
    return [
        Operation(service, method.upper(), path, about, document)
        for path, methods in document["paths"].items()
        for method, about in methods.items()
        if method in _METHODS
    ]


@dataclass(frozen=True, slots=True)
class _Sampler:
    document: Mapping[str, Any]
    values: Mapping[str, Any]
    full: bool

    def of(self, schema: Mapping[str, Any], name: str = "") -> Any:
        if name in self.values:
            return self.values[name]
        schema = self._resolved(schema)
        for shortcut in ("const", "default" if not self.full else "const"):
            if shortcut in schema:
                return schema[shortcut]
        if "enum" in schema:
            return schema["enum"][0]
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self.of(self._chosen(schema[choice]), name)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        return getattr(self, f"_{kind}")(schema)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            found: Any = self.document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            schema = found
        if "allOf" in schema:
            merged: dict[str, Any] = {}
            for part in schema["allOf"]:
                merged |= self._resolved(part)
            return merged
        return schema

    def _chosen(self, choices: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        useful = [one for one in choices if one.get("type") != "null"]
        return useful[0] if useful else choices[0]

    def _object(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        properties = schema.get("properties", {})
        wanted = properties if self.full else schema.get("required", ())
        return {name: self.of(properties.get(name, {}), name) for name in wanted}

    def _array(self, schema: Mapping[str, Any]) -> list[Any]:
        items = max(schema.get("minItems", 0), 1)
        return [self.of(schema.get("items", {})) for _ in range(items)]

    def _string(self, schema: Mapping[str, Any]) -> str:
        if schema.get("format") in _BY_FORMAT:
            return _BY_FORMAT[schema["format"]]
        text = str(self.values.get("*", _TEXT)).ljust(schema.get("minLength", 0), "x")
        return text[: schema.get("maxLength", len(text))]

    def _integer(self, schema: Mapping[str, Any]) -> int:
        return int(schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1))

    def _number(self, schema: Mapping[str, Any]) -> float:
        return float(self._integer(schema))

    def _boolean(self, _schema: Mapping[str, Any]) -> bool:
        return True

    def _null(self, _schema: Mapping[str, Any]) -> None:
        return None


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each plain value inside of a JSON value, with the name it has there."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, name)
    else:
        yield name, value
