"""Goal: a connector's command calls itself by the name it was started with.

Method: ask for help under each way of starting a Python program.
"""

import sys
from importlib.machinery import ModuleSpec

import pytest
from photinus_sdk import Settings, SharedStorage, serve


class Storage(SharedStorage[Settings], name="acme.storage", version="1.0.0"):
    """Keeps things."""


@pytest.mark.parametrize(
    ("spec", "path", "shown"),
    [
        (None, "/opt/bin/photinus-storage", "photinus-storage"),
        (None, "disk.py", "disk.py"),
        (ModuleSpec("photinus_storage.__main__", None), "…", "python -m photinus_storage"),
        (ModuleSpec("disk", None), "…", "python -m disk"),
    ],
)
def test_help_names_what_was_typed(
    spec: ModuleSpec | None,
    path: str,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", [path])
    with pytest.raises(SystemExit) as ended:
        serve(Storage, ["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {shown} [-h]")
