"""Field names in either spelling: the SDK itself sends `inlineData.mime_type`."""

import re
from functools import lru_cache
from typing import Any, Final

_CAPITAL: Final = re.compile(r"(?=[A-Z])")


@lru_cache
def snake(name: str) -> str:
    return _CAPITAL.sub("_", name).lower()


def pick(fields: dict[str, Any], name: str) -> Any:
    """The value by its camelCase name or by the same name in snake_case."""
    found = fields.get(name)
    return fields.get(snake(name)) if found is None else found
