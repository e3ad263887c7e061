"""The load generator of `make bench-api`, a program in Go: builds it, runs it, reads what it says."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
PROGRAM: Final = ROOT / "build" / "photinus-apiload"
RUN_S: Final = 3600.0
END_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Generator:
    """The program, built."""

    path: Path

    def run(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Runs it to its end and gives its report."""
        done = subprocess.run(
            self._command(options), stdout=subprocess.PIPE, check=True, timeout=RUN_S
        )
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    @contextmanager
    def hold(self, options: Mapping[str, Any]) -> Iterator[None]:
        """Keeps it running, once it has opened what it was asked to, until the block is left."""
        process = subprocess.Popen(
            self._command(options), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                if not process.stdout.readline():
                    message = "the load generator ended too early"
                    raise RuntimeError(message)
                yield
            finally:
                process.stdin.close()
                try:
                    process.wait(END_S)
                finally:
                    process.kill()

    def _command(self, options: Mapping[str, Any]) -> list[str]:
        return [str(self.path), *(f"-{name}={_text(value)}" for name, value in options.items())]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def build_generator() -> Generator:
    """Builds the program; quick when nothing has changed."""
    subprocess.run(
        ["go", "build", "-o", str(PROGRAM), "./cmd/photinus-apiload"],
        cwd=ROOT / "gateway",
        env={**os.environ, "GOFLAGS": "-buildvcs=false"},
        check=True,
        timeout=RUN_S,
    )
    return Generator(PROGRAM)
