"""`python -m photinus_sdk.scaffold`: what `photinus connector new` runs."""

import argparse
import sys
from pathlib import Path

from photinus_sdk.scaffold import ScaffoldError, create_project, offered


def main(arguments: list[str] | None = None) -> int:
    """Makes a project and says what to do next; the exit code."""
    there = offered()
    contracts = sorted({contract for found in there.values() for contract in found})
    parser = argparse.ArgumentParser(
        prog="photinus connector new",
        description="Makes a connector project that passes `connector-sanity run --profile quick`.",
    )
    parser.add_argument("name", metavar="NAME", help="name of connector, project and folder")
    parser.add_argument("--contract", required=True, help=", ".join(contracts))
    parser.add_argument("--language", default="python", help=f"{', '.join(there)} (python)")
    parser.add_argument("--dir", type=Path, default=Path(), help="where to make the folder (here)")
    options = parser.parse_args(arguments)
    try:
        folder = create_project(options.name, options.contract, options.language, options.dir)
    except (ScaffoldError, OSError) as error:
        print(f"photinus: {error}", file=sys.stderr)  # noqa: T201 - a command talks to a person
        return 1
    print(f"{folder} is made; its README.md says how to run, test and change it.")  # noqa: T201 - likewise
    return 0


if __name__ == "__main__":
    sys.exit(main())
