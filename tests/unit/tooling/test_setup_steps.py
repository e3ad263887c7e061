"""Goal: set-up does each step once, again when its inputs change, and never trusts a failed one.

Method: steps over temporary files, in place of the real checkout; fake programs on PATH that print
a version.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import setup_parts, setup_steps
from scripts.setup_parts import Step, StepError


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("stamps", "log", "bin"):
        (tmp_path / ".toolchain" / name).mkdir(parents=True)
    monkeypatch.setattr(setup_parts, "ROOT", tmp_path)
    monkeypatch.setattr(setup_parts, "STAMPS", tmp_path / ".toolchain" / "stamps")
    monkeypatch.setattr(setup_parts, "LOGS", tmp_path / ".toolchain" / "log")
    for module in (setup_parts, setup_steps):
        monkeypatch.setattr(module, "BIN", tmp_path / ".toolchain" / "bin")
    (tmp_path / "lock.txt").write_text("one==1")
    return tmp_path


def installing(checkout: Path, *, breaks: bool = False) -> tuple[Step, Callable[[], int]]:
    """A step that turns lock.txt into installed.txt, and how often it ran."""
    runs: list[Path] = []

    def run(log: Path) -> None:
        runs.append(log)
        if breaks:
            raise StepError("no network")
        (checkout / "installed.txt").write_text((checkout / "lock.txt").read_text())

    step = Step(
        name="packages",
        doing="installing packages",
        inputs=lambda: [checkout / "lock.txt"],
        outputs=lambda: [checkout / "installed.txt"],
        run=run,
    )
    return step, lambda: len(runs)


def test_a_done_step_is_not_done_again(checkout: Path) -> None:
    step, runs = installing(checkout)
    setup_parts.perform(step)
    setup_parts.perform(step)
    assert runs() == 1


def test_a_changed_input_runs_the_step_again(checkout: Path) -> None:
    step, runs = installing(checkout)
    setup_parts.perform(step)
    (checkout / "lock.txt").write_text("one==2")
    setup_parts.perform(step)
    assert runs() == 2
    assert (checkout / "installed.txt").read_text() == "one==2"


def test_a_lost_output_runs_the_step_again(checkout: Path) -> None:
    step, runs = installing(checkout)
    setup_parts.perform(step)
    (checkout / "installed.txt").unlink()
    setup_parts.perform(step)
    assert runs() == 2


def test_a_failed_step_is_tried_again(checkout: Path) -> None:
    step, _ = installing(checkout, breaks=True)
    with pytest.raises(StepError):
        setup_parts.perform(step)
    working, runs = installing(checkout)
    setup_parts.perform(working)
    assert runs() == 1


def test_a_failure_after_a_success_forgets_the_success(checkout: Path) -> None:
    """Going back to the old lock after a failed change must install it again."""
    step, _ = installing(checkout)
    setup_parts.perform(step)
    (checkout / "lock.txt").write_text("broken==1")
    broken, _ = installing(checkout, breaks=True)
    with pytest.raises(StepError):
        setup_parts.perform(broken)
    (checkout / "lock.txt").write_text("one==1")
    again, runs = installing(checkout)
    setup_parts.perform(again)
    assert runs() == 1


def test_a_failing_command_shows_the_end_of_its_output(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StepError, match="status 3"):
        setup_parts.call(["sh", "-c", "echo reason; exit 3"], checkout / "log", cwd=checkout)
    assert "reason" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("printed", "from_wheel"),
    [
        ("go version go1.26.8 linux/amd64", False),
        ("go version go1.27 linux/amd64", False),
        ("go version go1.19.8 linux/amd64", True),
        ("gibberish", True),
    ],
)
def test_go_of_the_machine_is_used_when_new_enough(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, printed: str, from_wheel: bool
) -> None:
    fake_program(checkout, "go", printed)
    monkeypatch.setenv("PATH", f"{checkout}:/usr/bin:/bin")
    assert bool(setup_steps.go_steps()) == from_wheel


@pytest.mark.parametrize(("printed", "from_wheel"), [("v20.0.0", False), ("v18.20.4", True)])
def test_node_of_the_machine_is_used_when_new_enough(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, printed: str, from_wheel: bool
) -> None:
    fake_program(checkout, "node", printed)
    fake_program(checkout, "npm", "10")
    monkeypatch.setenv("PATH", f"{checkout}:/usr/bin:/bin")
    assert bool(setup_steps.node_steps()) == from_wheel


def test_our_own_toolchain_is_not_taken_for_the_machines(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make` puts .toolchain/bin in front of PATH; what is linked there must not count."""
    ours = checkout / ".toolchain" / "bin"
    fake_program(ours, "go", "go version go1.27.3 linux/amd64")
    monkeypatch.setenv("PATH", str(ours))
    assert setup_steps.go_steps()
    assert (ours / "go").exists()


@pytest.mark.parametrize(
    ("place", "installed"),
    [("bin", False), ("debian/15/bin", False), ("debian/15/lib", True), (".toolchain/bin", True)],
)
def test_postgres_is_installed_only_where_the_machine_has_none(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, place: str, installed: bool
) -> None:
    folder = checkout / place
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("initdb", "postgres"):
        fake_program(folder, name, "postgres (PostgreSQL) 15.18")
    monkeypatch.setattr(setup_steps, "DEBIAN_POSTGRES", checkout / "debian")
    monkeypatch.setenv("PATH", f"{checkout}/bin:{checkout}/.toolchain/bin")
    assert [step.name for step in setup_steps.postgres_steps()] == (
        ["toolchain-postgres"] if installed else []
    )


def test_the_connector_in_typescript_runs_on_the_node_of_set_up(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the machine's Node is too old, it is still the first on PATH."""
    source, programs, ours = checkout / "ts", checkout / "bin", checkout / ".toolchain" / "bin"
    for folder in (source, programs):
        folder.mkdir()
    for name in ("tsconfig.json", "package.json"):
        (source / name).write_text("{}")
    npm = checkout / "npm"
    npm.write_text("#!/bin/sh\nmkdir -p dist/src && touch dist/src/main.js\n")
    npm.chmod(0o755)
    fake_program(checkout, "node", "too old")
    monkeypatch.setattr(setup_steps, "ROOT", checkout)
    monkeypatch.setattr(setup_steps, "TYPESCRIPT", source)
    monkeypatch.setattr(setup_steps, "VENV", checkout)
    monkeypatch.setattr(setup_parts, "VENV", checkout)
    monkeypatch.setenv("PATH", f"{checkout}:/usr/bin:/bin")
    setup_parts.perform(setup_steps.typescript_build_step())
    command = [str(programs / "photinus-example-typescript"), "--help"]
    assert subprocess.check_output(command, text=True) == "too old\n"
    (ours / "node").write_text('#!/bin/sh\necho "$@"\n')
    (ours / "node").chmod(0o755)
    printed = subprocess.check_output(command, text=True)
    assert printed == f"{source}/dist/src/main.js --help\n"


def fake_program(folder: Path, name: str, printed: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{printed}'\n")
    program.chmod(0o755)
