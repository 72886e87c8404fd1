"""Secrets as files: what `<NAME>_FILE` names stands for the secret setting `<NAME>`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from shared.settings.refused import SettingsRefused

LARGEST_FILE = 64 << 10


class SecretFiles(PydanticBaseSettingsSource):
    """The secret settings of a class that are given as files. Raises SettingsRefused."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The content of the field's file, None without one."""
        name = name_of(field, field_name)
        value = read_secret(os.environ, name) if is_secret(field) else None
        return value, name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for field_name, field in self.settings_cls.model_fields.items():
            value, name, _ = self.get_field_value(field, field_name)
            if value is not None:
                found[name] = value
        return found


def is_secret(field: FieldInfo) -> bool:
    """Whether the field's type is that of secrets."""
    kind = field.annotation
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return SecretStr in kinds


def name_of(field: FieldInfo, field_name: str) -> str:
    """The variable that a field is read from."""
    alias = field.validation_alias
    return alias if isinstance(alias, str) else field_name.upper()


def with_secret_files(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The environment with these secrets in it, where it names their files. Raises
    SettingsRefused."""
    secrets = {name: read_secret(environ, name) for name in names}
    files = {f"{name}_FILE" for name, value in secrets.items() if value is not None}
    rest = {name: value for name, value in environ.items() if name not in files}
    return rest | {name: value for name, value in secrets.items() if value is not None}


def read_secret(environ: Mapping[str, str], name: str) -> str | None:
    """What the file that `<name>_FILE` names holds, without the end of its last line; None where
    no file is named. Raises SettingsRefused, whose sentence holds nothing of the content."""
    path = environ.get(f"{name}_FILE")
    if not path:
        return None
    if environ.get(name):
        raise SettingsRefused(f"{name} and {name}_FILE are both set; keep one of them.")
    try:
        content = _read(Path(path))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsRefused(f"{name}_FILE: {path} can't be read ({reason}).") from error
    except ValueError as error:
        raise SettingsRefused(f"{name}_FILE: {path} {error}.") from None
    return content


def _read(path: Path) -> str:
    # A pipe would keep us waiting for whoever writes into it.
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("is no regular file")
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError("holds more than 64 KiB")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is no text in UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError("is empty")
    return text
