"""Goal: the command line helps whoever does not know it.

Method: `main` as the program calls it.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from photinus_core.app.attaching import instance_config
from photinus_core.app.cli import main
from photinus_core.app.config import ConnectorSettings, PluginSettings

from tests.support.logs import bare_root_logger


def test_without_a_command_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    listed = capsys.readouterr().out
    assert all(f"    {name} " in listed for name in ("up", "down", "status", "explain", "config"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == version("photinus-core")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "invalid choice: 'nosuch'"),
        (["up", "--members", "many"], "invalid int value: 'many'"),
        (["explain", "message"], "required: id"),
        (["config"], "required: ACTION"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_a_configuration_with_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert main(["config", "check", str(path)]) == 2
    assert main(["serve", "--config", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(f"{path}, line 1" in line and "FF10166" in line for line in lines)


def test_an_address_that_cannot_be_listened_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fails among the tasks of a node; no traceback is shown for it."""
    path = tmp_path / "node.yaml"
    path.write_text(
        f"""
grpc: {{address: "unix:{tmp_path}/none/core.sock"}}
plugins: {{database: [{{name: d, type: sqlite3, sqlite3: {{url: core.db}}}}]}}
namespaces: {{predefined: [{{name: default, plugins: [d]}}]}}
"""
    )
    with bare_root_logger():
        assert main(["serve", "--config", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("photinus: FF19212: ")
    assert "none/core.sock" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("written", "reached"),
    [
        ("unix:run/dx.sock", "unix:{folder}/run/dx.sock"),
        ("unix:/run/dx.sock", "unix:/run/dx.sock"),
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("", ""),
    ],
)
def test_sockets_of_connectors_are_found_from_the_configurations_folder(
    tmp_path: Path, written: str, reached: str
) -> None:
    launch = () if written else ("photinus-dx",)
    connector = ConnectorSettings(written, launch)
    plugin = PluginSettings("dx0", "dataexchange", "ffdx", connector, {})
    found = instance_config(plugin, connector, tmp_path)
    assert found.address == reached.format(folder=tmp_path)
