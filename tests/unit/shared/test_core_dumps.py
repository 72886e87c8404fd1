"""No crash leaves what was in memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.core_dumps import least_core_limit

_ASK = """
import os, resource
from shared.core_dumps import forbid_core_dumps
{before}
forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE))
"""


def told(before: str = "") -> str:
    """What holds in a process of ours, soft and hard."""
    words = [sys.executable, "-c", _ASK.format(before=before)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_limit_is_the_one_at_which_no_collector_is_started_either() -> None:
    least = least_core_limit()
    assert told() == f"({least}, {least})"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_where_none_may_be_written_anyway_that_stays() -> None:
    given = "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.setuid(10001)"
    assert told(given) == "(0, 0)"
