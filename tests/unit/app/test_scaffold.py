"""Goal: `photinus connector new` makes a whole project or nothing, and says why it makes none.

Method: fill every template there is, look at what comes out without running it, and ask for what cannot be.
"""

import re
import tomllib
from pathlib import Path

import pytest
from photinus_core.app import scaffold
from photinus_core.app.cli import main as photinus
from photinus_core.app.scaffold import ScaffoldError, create_project, offered

EVERY = [(language, contract) for language, found in offered().items() for contract in found]


@pytest.mark.parametrize(("language", "contract"), EVERY)
def test_every_template_can_be_filled(language: str, contract: str, tmp_path: Path) -> None:
    folder = create_project("acme-store", contract, language, tmp_path)
    assert folder == tmp_path / "acme-store"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"README.md", "settings.json"} <= {path.name for path in files}
    for path in files:
        assert path.suffix != ".tmpl"
        left = scaffold.PLACEHOLDER.search(f"{path.relative_to(folder)}\n{path.read_text()}")
        assert left is None, f"{path}: {left}"
    assert list(tmp_path.iterdir()) == [folder], "what it was made in is gone"
    assert folder.stat().st_mode & 0o755 == 0o755


@pytest.mark.parametrize("contract", offered()["python"])
def test_a_python_project_is_valid(contract: str, tmp_path: Path) -> None:
    folder = create_project("acme-store", contract, "python", tmp_path)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "acme-store"
    assert project["scripts"] == {"acme-store": "acme_store.__main__:main"}
    for path in folder.rglob("*.py"):
        compile(path.read_text(), path, "exec")


def test_templates_are_all_marked_as_such() -> None:
    files = [path for path in scaffold.TEMPLATES.rglob("*") if path.is_file()]
    others = {path.relative_to(scaffold.TEMPLATES) for path in files if path.suffix != ".tmpl"}
    assert others == {Path("README.md")}


def test_the_templates_guide_knows_every_placeholder() -> None:
    guide = (scaffold.TEMPLATES / "README.md").read_text()
    documented = set(re.findall(r"^\| `\{\{(\w+)\}\}` \|", guide, re.MULTILINE))
    assert documented == set(scaffold.placeholders("acme-store", "tokens"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "a_b",
        "a--b",
        "-a",
        "a-",
        "1a",
        "a b",
        "../a",
        "/a",
        "a/b",
        ".",
        "ä",
        "a" * 41,
        "a\n",
    ],
)
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError, match="is no name for a connector"):
        create_project(name, "shared-storage", "python", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["json", "class", "photinus", "photinus-dx", "tests", "src", "gen"]
)
def test_a_name_that_python_would_confuse_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError, match=f"{name} is taken; .* my-{name}"):
        create_project(name, "shared-storage", "python", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("contract", "language", "said"),
    [
        ("storage", "python", "no template for the contract 'storage' in python; .*shared-storage"),
        ("common", "python", "no template for the contract 'common'"),
        ("shared-storage", "cobol", "no templates for the language 'cobol'; there are: .*python"),
        ("shared-storage", "..", "no templates for the language"),
    ],
)
def test_an_unknown_choice_is_refused(
    contract: str, language: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ScaffoldError, match=said):
        create_project("acme", contract, language, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    for name in ("empty", "dangling", "file"):
        with pytest.raises(ScaffoldError, match=f"{name} exists; choose another name"):
            create_project(name, "shared-storage", "python", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "empty", "file"]
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(ScaffoldError, match="there is no folder"):
        create_project("acme", "shared-storage", "python", tmp_path / "nowhere")


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0

    def full(path: Path, *_: object, **__: object) -> int:
        nonlocal written
        written += 1
        if written == 3:
            raise OSError("No space left on device")
        return path.write_bytes(b"")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        create_project("acme", "shared-storage", "python", tmp_path)
    assert written == 3
    assert not list(tmp_path.iterdir())


def test_an_unknown_placeholder_is_an_error() -> None:
    assert scaffold.render("{{name}} {{ .Go }} {}", {"name": "acme"}) == "acme {{ .Go }} {}"
    with pytest.raises(KeyError):
        scaffold.render("{{nmae}}", {"name": "acme"})


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["connector", "new", "acme", "--contract", "shared-storage", "--dir", str(tmp_path)]
    assert photinus(asked) == 0
    assert (tmp_path / "acme/pyproject.toml").is_file()
    assert "README.md says how" in capsys.readouterr().out
    assert photinus(asked) == 1
    said = capsys.readouterr().err
    assert said.startswith("photinus: ")
    assert "acme exists" in said
