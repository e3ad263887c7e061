"""How the commands reach a node, and where they take secrets from: files and the environment. Table-driven."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import pytest
from photinus_client import basic, bearer
from photinus_core.app.devnet.processes import StartError
from photinus_core.app.reaching import Api, add_api, api_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (
        ("password", "secret\n"),
        ("token", "a.b.c\r\n"),
        ("ca", "CA"),
        ("cert", "C"),
        ("key", "K"),
    ):
        (tmp_path / name).write_text(text, newline="")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def api(environment: Mapping[str, str], *arguments: str) -> Api:
    parser = argparse.ArgumentParser()
    add_api(parser, environment)
    return api_of(parser.parse_args(arguments), environment)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("environment", "arguments", "want"),
    [
        ({}, (), Api("127.0.0.1:5001")),
        ({"PHOTINUS_API": "unix:a"}, (), Api("unix:a")),
        ({"PHOTINUS_API": "unix:a"}, ("--api", "unix:b"), Api("unix:b")),
        (
            {"PHOTINUS_USER": "root", "PHOTINUS_PASSWORD": "r"},
            (),
            Api("127.0.0.1:5001", basic("root", "r")),
        ),
        (
            {"PHOTINUS_PASSWORD": "r"},
            ("--user", "root", "--password-file", "password"),
            Api("127.0.0.1:5001", basic("root", "secret")),
        ),
        ({"PHOTINUS_TOKEN": "x.y.z\n"}, (), Api("127.0.0.1:5001", bearer("x.y.z"))),
        ({}, ("--token-file", "token"), Api("127.0.0.1:5001", bearer("a.b.c"))),
        ({"PHOTINUS_TOKEN_FILE": "token"}, (), Api("127.0.0.1:5001", bearer("a.b.c"))),
        (
            {"PHOTINUS_CA": "ca"},
            ("--cert", "cert", "--key", "key"),
            Api("127.0.0.1:5001", ca=b"CA", certificate=b"C", key=b"K"),
        ),
    ],
)
def test_what_is_understood(
    environment: Mapping[str, str], arguments: tuple[str, ...], want: Api
) -> None:
    found = api(environment, *arguments)
    assert found == want
    assert str(found) == want.address
    for secret in (want.authorization.partition(" ")[2], "K'"):
        assert not secret or secret not in repr(found)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("environment", "arguments", "why"),
    [
        ({}, ("--user", "root"), "password of root is missing"),
        ({"PHOTINUS_TOKEN": "x"}, ("--user", "root"), "a user or a token"),
        ({}, ("--token-file", "absent"), "absent: No such file"),
        ({}, ("--cert", "cert"), "--cert and --key go together"),
        ({}, ("--cert", "cert", "--key", "key"), "--cert goes with --ca"),
    ],
)
def test_what_is_not(environment: Mapping[str, str], arguments: tuple[str, ...], why: str) -> None:
    with pytest.raises(StartError, match=why):
        api(environment, *arguments)
