"""The dashboards as Grafana reads them: `python -m deploy.grafana.render` writes them anew."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.boards import BOARDS
from deploy.grafana.panels import Board

FOLDER = Path(__file__).with_name("dashboards")


def rendered(board: Board) -> str:
    """A dashboard's file."""
    return str(JSONEncoder(sort_keys=True, indent=2).encode(board.build())) + "\n"


def main() -> None:
    """Write the files."""
    for board in BOARDS:
        (FOLDER / f"{board.name}.json").write_text(rendered(board), "utf-8")


if __name__ == "__main__":
    main()
