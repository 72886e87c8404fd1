"""Tools a request offers, and made-up arguments that fit their schemas."""

from dataclasses import dataclass
from typing import Any, Final

from tests.support.simulator.wire import dump

_DEEPEST: Final = 8
_WHEN_UNKNOWN: Final[dict[str, Any]] = {
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "null": None,
}


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    schema: Any


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments: Any

    @property
    def arguments_json(self) -> str:
        return dump(self.arguments).decode()

    def fragments(self) -> tuple[str, str]:
        """The arguments as a stream delivers them, in two parts that are no JSON alone."""
        text = self.arguments_json
        return text[: len(text) // 2], text[len(text) // 2 :]


def sample(schema: Any, said: str) -> Any:
    """A value that fits the schema; its texts are what the user said."""
    return _Sampler(schema, said).value(schema, _DEEPEST) if isinstance(schema, dict) else {}


@dataclass(frozen=True, slots=True)
class _Sampler:
    root: Any
    said: str

    def value(self, schema: Any, depth: int) -> Any:
        schema = self._resolved(schema)
        if not isinstance(schema, dict) or depth == 0:
            return None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        for choice in ("anyOf", "oneOf", "allOf", "any_of"):
            if schema.get(choice):
                return self.value(schema[choice][0], depth - 1)
        return self._of_type(schema, depth)

    def _of_type(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object")
        kind = str(kind[0] if isinstance(kind, list) else kind).lower()
        if kind == "object":
            properties = schema.get("properties") or {}
            return {name: self.value(inner, depth - 1) for name, inner in properties.items()}
        if kind == "array":
            return [self.value(schema.get("items", {"type": "string"}), depth - 1)]
        return _WHEN_UNKNOWN.get(kind, self.said)

    def _resolved(self, schema: Any) -> Any:
        if not isinstance(schema, dict) or not str(schema.get("$ref", "")).startswith("#/"):
            return schema
        found = self.root
        for step in schema["$ref"][2:].split("/"):
            found = found.get(step, {}) if isinstance(found, dict) else {}
        return found
