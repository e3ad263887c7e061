"""What a step of set-up is, and how steps are done: once, again when their inputs change.

Uses the standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLCHAIN = ROOT / ".toolchain"
BIN = TOOLCHAIN / "bin"
BUILD = ROOT / "build"
STAMPS = TOOLCHAIN / "stamps"
LOGS = TOOLCHAIN / "log"

SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
LOG_LINES_SHOWN = 30

Command = Sequence[str | Path]


class StepError(Exception):
    """A step failed; the message says what to look at."""


@dataclass(frozen=True)
class Step:
    """One thing to install or build."""

    name: str  # also the name of its stamp and its log
    doing: str  # said while it runs
    inputs: Callable[[], Iterable[Path]]  # the step runs again when one of them changes
    outputs: Callable[[], Iterable[Path]]  # ... or when one of these is gone
    run: Callable[[Path], None]  # is given the log to write to
    settings: str = ""  # anything else the result depends on


def perform(step: Step) -> None:
    """Runs a step unless its stamp says that this very work is done."""
    stamp = STAMPS / step.name
    wanted = digest(step)
    if (
        stamp.exists()
        and stamp.read_text() == wanted
        and all(output.exists() for output in step.outputs())
    ):
        return
    stamp.unlink(missing_ok=True)
    log = LOGS / f"{step.name}.log"
    log.write_text("")
    print(f"setup: {step.doing} ...", flush=True)
    start = time.monotonic()
    step.run(log)
    stamp.write_text(wanted)
    print(f"setup: {step.doing}: done in {time.monotonic() - start:.0f} s", flush=True)


def digest(step: Step) -> str:
    """The stamp's content: the settings and the names and contents of all inputs."""
    found = hashlib.sha256(f"{step.name}\n{step.doing}\n{step.settings}\n".encode())
    for path in sorted(set(step.inputs())):
        found.update(f"{path.relative_to(ROOT)}\n".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def call(
    command: Command,
    log: Path,
    *,
    cwd: Path = ROOT,
    env: dict[str, str] | None = None,
) -> None:
    """Runs a command with its output in the log; on failure shows the end of it."""
    with log.open("a") as output:
        output.write(f"$ {' '.join(str(word) for word in command)}\n")
        output.flush()
        status = subprocess.run(
            [str(word) for word in command],
            check=False,
            cwd=cwd,
            env={**environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ).returncode
    if status != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
        print(tail, file=sys.stderr)
        message = f"`{command[0]}` failed with status {status}; all of its output: {log}"
        raise StepError(message)


def environment() -> dict[str, str]:
    """The caller's environment, our tools first on PATH; Go may not fetch another Go.

    uv and Node carry certificates of their own; where the machine has a store, that is what its
    administrator keeps (behind a company's proxy nothing else works).
    """
    trust = {"UV_SYSTEM_CERTS": "1", "NODE_EXTRA_CA_CERTS": str(SYSTEM_CERTIFICATES)}
    return {
        **(trust if SYSTEM_CERTIFICATES.exists() else {}),
        **os.environ,
        "PATH": os.pathsep.join([str(VENV / "bin"), str(BIN), os.environ.get("PATH", os.defpath)]),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-buildvcs=false",
    }


def version_of(command: Sequence[str], pattern: str) -> tuple[int, ...] | None:
    """The version a program on PATH prints, or None where it is absent."""
    if shutil.which(command[0], path=system_path()) is None:
        return None
    text = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": system_path(), "GOTOOLCHAIN": "local"},
        cwd=ROOT,
    ).stdout
    found = re.search(pattern, text)
    return tuple(int(part) for part in found.groups()) if found else None


def system_path() -> str:
    """PATH without our own folders, which `make` puts in front."""
    ours = {BIN.resolve(), (VENV / "bin").resolve()}
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(part for part in parts if Path(part).resolve() not in ours)


def relink(link: Path, target: Path) -> None:
    """Points a link at a target, whatever was there before."""
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))
