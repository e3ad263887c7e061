"""Goal: a project in Go that `photinus connector new` made works as it is, wherever it is, with Go alone.

Method: make one with the command, build it in its folder with the stubs it brought and nothing else of ours, run its
own tests, and the quick profile of the conformance suite with its own settings. Nothing is fetched: what it needs is
what connectors/example-go needs, by the same locks.
"""

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest
from photinus_core.app.cli import main as photinus

from tests.support.commands import output_of
from tests.support.solo import program

ROOT = Path(__file__).parents[3]
NAME = "acme-store"
LIMIT_S = 300
MACHINE = re.compile(r"(?<![\w.$~:-])/(work|root|tmp|home|Users|build)/")


async def run(folder: Path, *command: str) -> str:
    """What a program prints; it must end well."""
    path = os.pathsep.join((str(ROOT / ".toolchain" / "bin"), os.environ["PATH"]))
    env = {**os.environ, "PATH": path, "GOTOOLCHAIN": "local", "GOPROXY": "off", "GOWORK": "off"}
    return await output_of(
        folder,
        shutil.which(command[0], path=path) or command[0],
        *command[1:],
        # Without the folder in what is compiled, a second run finds it done.
        environment={**env, "GOFLAGS": "-trimpath -buildvcs=false"},
        limit_s=LIMIT_S,
    )


def new(parent: Path, name: str = NAME) -> int:
    """What the command ends with."""
    asked = ["connector", "new", name, "--contract", "shared-storage", "--language", "go"]
    return photinus([*asked, "--dir", str(parent)])


async def test_a_generated_project_builds_and_keeps_the_protocol(tmp_path: Path) -> None:
    assert await asyncio.to_thread(new, tmp_path) == 0
    project = tmp_path / NAME
    await run(project, "go", "build", "-o", NAME, ".")
    await run(project, "go", "test", "./...")
    suite = (program("connector-sanity"), "run", "--launch", f"./{NAME}", "--profile", "quick")
    given = ("--settings", "settings.json", "--fixture", "fixture.json", "--strict")
    said = await run(project, *suite, *given)
    found = re.search(r"(\d+) passed, 0 failed", said)
    assert found is not None, said
    # What every connector is asked, whatever its contract, is more than this.
    assert int(found[1]) > 45, said
    described = await run(project, program("connector-sanity"), "describe", "--launch", f"./{NAME}")
    assert NAME in described
    assert "example-go" not in described


def test_a_generated_project_is_nobodys_but_its_authors(tmp_path: Path) -> None:
    """No path of the machine that made it, and nothing that is only on ours."""
    assert new(tmp_path) == 0
    places = (str(ROOT), str(tmp_path), str(Path.home()))
    for path in (found for found in (tmp_path / NAME).rglob("*") if found.is_file()):
        text = path.read_text()
        assert not MACHINE.search(text), path
        assert not any(place in text for place in places if place != "/"), path
        if path.parent.name != "v1":  # stubs name the proto's own package
            assert "photinus-project/photinus/" not in text, path
            assert "example-go" not in text, path
    manifest = (tmp_path / NAME / "go.mod").read_text()
    assert manifest.startswith(f"module example.com/{NAME}\n")
    assert "replace" not in manifest


@pytest.mark.parametrize("name", ["Acme", "acme_store", "../acme", "-acme", "gen", "", "a" * 41])
def test_a_bad_name_makes_nothing(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Behind `--`, as a shell would have to say it.
    asked = ["connector", "new", "--contract", "shared-storage", "--language", "go"]
    assert photinus([*asked, "--dir", str(tmp_path), "--", name]) == 1
    assert "photinus: " in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "mine").touch()
    assert new(tmp_path) == 1
    assert f"{NAME} exists" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / NAME).iterdir()] == ["mine"]
