"""Who asks at the console: what the notes of an act by hand say."""

from __future__ import annotations

import getpass
import os


def at_the_console() -> str:
    """The user's name, or the number of one who has no name here.

    A container that runs as a user of the operator's (`COMPANION_UID`) has no line for them.
    """
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return f"console:{name}"
