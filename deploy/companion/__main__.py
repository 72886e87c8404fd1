"""`python -m deploy.companion`: the same as the command `companion`."""

from deploy.companion.cli import main

main()
