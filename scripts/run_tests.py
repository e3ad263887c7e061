"""Runs everything: `make test`. Static checks, then the Go tests, then all Python tests.

Every part runs even when an earlier one failed. The Python tests are one run of pytest and come
last, so that its closing lines close the output; tests/conftest.py makes it tell the duration of
each suite (unit, simulation, integration, e2e ...).
"""

from __future__ import annotations

import subprocess
import sys
import time

from scripts.run_checks import GO_MODULES, ROOT, run_all, static_checks


def main() -> None:
    """Runs all parts and exits with 1 when one failed."""
    start = time.monotonic()
    failed = run_all(static_checks())
    print(f"test: static checks took {time.monotonic() - start:.0f} s", flush=True)
    for module in GO_MODULES:
        if (ROOT / module / "go.mod").exists() and not go_tests(module):
            failed.append(f"go test {module}")
    if failed:
        print(f"test: FAILED so far: {', '.join(failed)}", flush=True)
    pytest = subprocess.run([sys.executable, "-m", "pytest"], check=False, cwd=ROOT)
    sys.exit(1 if failed or pytest.returncode != 0 else 0)


def go_tests(module: str) -> bool:
    """Runs the tests of one Go module; True when they pass."""
    start = time.monotonic()
    command = ["go", "test", "-timeout", "600s", "./..."]
    passed = subprocess.run(command, check=False, cwd=ROOT / module).returncode == 0
    print(f"test: go test {module} took {time.monotonic() - start:.0f} s", flush=True)
    return passed


if __name__ == "__main__":
    main()
