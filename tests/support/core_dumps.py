"""What a process of this machine can be held to."""

from __future__ import annotations

import subprocess
import sys

_TRY = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (1, 1))"


def least_core_limit() -> int:
    """1, at which no collector of crashes is started; 0 where the hard limit is that already."""
    tried = subprocess.run([sys.executable, "-c", _TRY], stderr=subprocess.DEVNULL, check=False)
    return 1 if tried.returncode == 0 else 0
