"""Ids that no other run of the simulator has given out."""

from itertools import count
from secrets import token_hex
from typing import Final

_run: Final = token_hex(6)
_numbers: Final = count(1)


def new_id(prefix: str) -> str:
    return f"{prefix}{_run}{next(_numbers):010x}"
