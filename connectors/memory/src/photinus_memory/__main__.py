"""`photinus-memory`: the connector as a process. What it holds ends with it, unless `--keep` is given."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from photinus_sdk import serve
from photinus_sdk.server import DATA_DIR_VARIABLE

from photinus_memory.connector import connector_over
from photinus_memory.world import World

WORLD_FILE: Final = "world.facts"


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get(DATA_DIR_VARIABLE))
    own, others = parser.parse_known_args()
    if own.keep and own.data_dir is None:
        sys.exit("photinus-memory: --keep needs --data-dir")
    with tempfile.TemporaryDirectory(prefix="photinus-memory-") as nowhere:
        # Without --keep the kit still wants a folder; nothing is written to this one.
        folder = Path(own.data_dir) if own.keep else Path(nowhere)
        world = World(folder / WORLD_FILE if own.keep else None)
        try:
            serve(connector_over(world), [*others, "--data-dir", str(folder)])
        finally:
            world.close()


if __name__ == "__main__":
    main()
