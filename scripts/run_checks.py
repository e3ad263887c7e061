"""Runs every check that needs no network: `make check`, and the first part of `make test`.

Checks run two at a time; each reports its duration, and its output when it fails. All of them run
even when one fails.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 2
CHECK_TIMEOUT_S = 900

# Folders with Python of ours; those that do not exist (yet) are left out.
PYTHON_FOLDERS = (
    "core/src",
    "client/src",
    "connectors/journal/src",
    "connectors/sdk/src",
    "connectors/ethereum/src",
    "connectors/ipfs/src",
    "connectors/dx/src",
    "connectors/memory/src",
    "connectors/sanity/src",
    "scripts",
    "tests",
    "bench",
    "examples",
)

# Modules with Go of ours.
GO_MODULES = ("gateway", "connectors/example-go", "tests/support/ipfs_node")

# Packages with TypeScript of ours; `npm run check` formats, types, builds and tests.
NPM_PACKAGES = ("connectors/example-typescript",)

# The last released connector protos as a buf image, written by `make proto-release`.
RELEASED_PROTOS = ROOT / "proto" / "released.binpb"


@dataclass(frozen=True)
class Check:
    """A command that must exit with 0 and, where `silent`, print nothing."""

    name: str
    command: Sequence[str]
    folder: Path = ROOT
    silent: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a check went."""

    check: Check
    passed: bool
    output: str
    duration_s: float


def main() -> None:
    """Runs the checks and exits with 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--without-unit-tests", action="store_true", help="only the static checks")
    options = parser.parse_args()
    checks = static_checks()
    if not options.without_unit_tests:
        checks.append(unit_tests())
    failed = run_all(checks)
    if failed:
        sys.exit(f"check: failed: {', '.join(failed)}")
    print("check: all passed")


def static_checks() -> list[Check]:
    """Everything but tests, the slowest first."""
    folders = [folder for folder in PYTHON_FOLDERS if any((ROOT / folder).rglob("*.py"))]
    checks = [
        Check("types (mypy)", ["mypy", *folders]),
        Check("lint (ruff)", ["ruff", "check", "."]),
        Check("format (ruff)", ["ruff", "format", "--check", "."]),
        Check("imports (import-linter)", ["lint-imports"]),
        Check("protos (buf lint)", ["buf", "lint"]),
        Check("protos (buf breaking)", ["buf", "breaking", "--against", str(RELEASED_PROTOS)]),
        Check(
            "REST bindings are current",
            [sys.executable, "-m", "scripts.generate_rest", "--check"],
        ),
        Check(
            "generated code is current",
            [sys.executable, "scripts/generate_protos.py", "--check"],
        ),
        Check(
            "templates of Go are current",
            [sys.executable, "-m", "scripts.generate_go_template", "--check"],
        ),
    ]
    for module in GO_MODULES:
        folder = ROOT / module
        if (folder / "go.mod").exists():
            checks.append(Check(f"go vet {module}", ["go", "vet", "./..."], folder))
            checks.append(Check(f"gofmt {module}", [gofmt(), "-l", "."], folder, silent=True))
    checks += [Check(path, ["npm", "run", "check"], ROOT / path) for path in NPM_PACKAGES]
    return checks


def gofmt() -> str:
    """Where gofmt is: on PATH, or inside the Go that is."""
    found = shutil.which("gofmt")
    if found is not None:
        return found
    goroot = subprocess.run(["go", "env", "GOROOT"], check=True, capture_output=True, text=True)
    return str(Path(goroot.stdout.strip()) / "bin" / "gofmt")


def unit_tests() -> Check:
    """The tests that take milliseconds each and touch no network."""
    return Check("unit tests", ["pytest", "-q", "-n", str(AT_ONCE), "tests/unit"])


def run_all(checks: Sequence[Check]) -> list[str]:
    """Runs the checks, reports each as it ends, and returns the names of those that failed."""
    failed = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for future in as_completed([pool.submit(run, check) for check in checks]):
            outcome = future.result()
            verdict = "ok" if outcome.passed else "FAILED"
            print(f"check: {outcome.check.name:<34} {verdict:<6} {outcome.duration_s:6.1f} s")
            if not outcome.passed:
                failed.append(outcome.check.name)
                print(outcome.output.rstrip())
            sys.stdout.flush()
    return failed


def run(check: Check) -> Outcome:
    """Runs one check to its end."""
    start = time.monotonic()
    try:
        done = subprocess.run(
            check.command,
            check=False,
            cwd=check.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=CHECK_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return Outcome(check, False, f"no end after {CHECK_TIMEOUT_S} s", CHECK_TIMEOUT_S)
    passed = done.returncode == 0 and not (check.silent and done.stdout.strip())
    return Outcome(check, passed, done.stdout, time.monotonic() - start)


if __name__ == "__main__":
    main()
