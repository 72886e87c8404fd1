"""`python -I as_user.py UID COMMAND…`: becomes another user, then COMMAND.

Stands in for setpriv on systems that lack it.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Give up root for good and replace this process by the command."""
    uid, command = int(sys.argv[1]), sys.argv[2:]
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
