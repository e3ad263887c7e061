"""Goal: an operator sees on the command line what runs, what waits and what is wrong.

Method: `photinus` as a process, on the shared network, on files of its own, and on a folder where
nothing is up.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Final

from tests.support.commands import photinus
from tests.support.network import RunningNetwork

COMMAND_S: Final = 60.0


def test_status_lists_members_and_connectors(network: RunningNetwork) -> None:
    done = photinus("status", "--dir", str(network.folder))
    assert done.returncode == 0, done.stderr
    for member in network.members:
        assert f"{member.org}  {member.url}  up" in done.stdout
    assert done.stdout.count("leads default") == len(network.members)
    for connector in ("blockchain0", "dataexchange0", "sharedstorage0"):
        lines = [line for line in done.stdout.splitlines() if connector in line]
        assert len(lines) == len(network.members)
        assert all(" ready " in line for line in lines)


def test_connectors_of_one_node(network: RunningNetwork) -> None:
    done = photinus("connectors", "--api", network.members[1].grpc_address)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    heads = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert heads == ["blockchain0", "dataexchange0", "sharedstorage0"]
    streams = [line for line in lines if line.startswith("    stream default")]
    assert len(streams) == 2, "of the ledger and the data exchange"
    assert all(" open, " in line for line in streams)
    assert any(line.startswith("    can        events, ") for line in lines)


def test_connectors_of_nobody_is_said_in_one_line() -> None:
    done = photinus("connectors", "--api", "127.0.0.1:9")
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_explain_confirmed_and_unknown_messages(network: RunningNetwork) -> None:
    member = network.members[0]
    sent = member.post("/messages/broadcast?confirm=true", {"data": [{"value": 1}]})
    identifier = sent["header"]["id"]
    done = photinus("explain", "message", identifier, "--api", member.grpc_address)
    assert done.returncode == 0, done.stderr
    assert f"message    {identifier}" in done.stdout
    assert "state      confirmed" in done.stdout
    assert "waits for" not in done.stdout
    for wrong in (str(uuid.uuid4()), "zz"):
        done = photinus("explain", "message", wrong, "--api", member.grpc_address)
        assert done.returncode == 1
        assert done.stderr.startswith("photinus: FF")


def test_up_on_a_network_that_is_up_is_refused(network: RunningNetwork) -> None:
    done = photinus("up", "--dir", str(network.folder))
    assert done.returncode == 1
    assert "already up" in done.stderr
    assert "photinus down" in done.stderr
    assert network.members[0].get("/status")["node"]["registered"], "the first one is undisturbed"
    fresh = photinus("up", "--fresh", "--dir", str(network.folder))
    assert "already up" in fresh.stderr
    assert (network.folder / "network.json").exists(), "nothing was thrown away"


def test_commands_without_a_network(tmp_path: Path) -> None:
    status = photinus("status", "--dir", str(tmp_path))
    assert status.returncode == 1
    assert "no network" in status.stderr
    down = photinus("down", "--dir", str(tmp_path))
    assert down.returncode == 0
    assert "no network is up" in down.stdout
    many = photinus("up", "--members", "99", "--dir", str(tmp_path / "many"))
    assert many.returncode == 1
    assert "1 to 8 members" in many.stderr


def test_config_check_takes_what_up_writes(network: RunningNetwork) -> None:
    for member in network.members:
        done = photinus("config", "check", str(member.folder / "photinus.core.yaml"))
        assert (done.returncode, done.stderr) == (0, "")
        assert "1 namespaces (default), no errors" in done.stdout


def test_config_check_names_lines(network: RunningNetwork, tmp_path: Path) -> None:
    good = (network.members[0].folder / "photinus.core.yaml").read_text()
    bad = tmp_path / "bad.yaml"
    lines = good.splitlines()
    at = next(n for n, line in enumerate(lines) if line.strip().startswith("networkNamespace:"))
    lines[at] = lines[at].replace("networkNamespace", "networkNamespce")
    bad.write_text("\n".join(lines))
    done = photinus("config", "check", str(bad))
    assert done.returncode == 2
    assert f"line {at + 1}" in done.stderr
    assert "networkNamespce" in done.stderr

    bad.write_text(good.replace("default: default", "default: absent"))
    done = photinus("config", "check", str(bad))
    assert done.returncode == 2
    assert "FF10166" in done.stderr

    bad.write_text("namespaces: [\n  a: b\n")
    done = photinus("config", "check", str(bad))
    assert done.returncode == 2
    assert "FF19301" in done.stderr
    assert "line" in done.stderr

    missing = photinus("config", "check", str(tmp_path / "absent.yaml"))
    assert missing.returncode != 0
    assert "Traceback" not in missing.stderr


def test_secrets_are_in_no_log(network: RunningNetwork) -> None:
    from photinus_core.app.devnet.layout import DEV_KEYS, SPARE_KEYS

    logs = list((network.folder / "logs").iterdir())
    assert len(logs) >= 1 + 2 * len(network.members)
    for log in logs:
        text = log.read_text(errors="replace")
        assert not any(key in text for key in (*DEV_KEYS, *SPARE_KEYS)), log.name
    assert json.loads((network.folder / "network.json").read_text())["members"]
