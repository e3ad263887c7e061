"""Goal: a development network finds free ports beside other programs, and its own again later.

Method: listen on wanted ports and look at what is chosen instead; write and read a folder's state.
"""

import socket
from pathlib import Path

import pytest
from photinus_core.app.config import load
from photinus_core.app.devnet import layout
from photinus_core.app.devnet.layout import Layout, MemberState, NetworkState, free_port
from photinus_core.app.devnet.member import Surroundings, write_configs
from photinus_core.app.devnet.processes import StartError


def listener() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen()
    return made


def test_a_port_in_use_is_passed_over() -> None:
    with listener() as other:
        wanted = other.getsockname()[1]
        taken: set[int] = set()
        found = free_port(wanted, taken)
        assert wanted < found < wanted + layout.PORTS_TRIED
        assert taken == {found}
        assert free_port(wanted, taken) not in {wanted, found}


def test_without_a_free_port_the_range_is_named() -> None:
    wanted = 40_000
    taken = set(range(wanted, wanted + layout.PORTS_TRIED))
    with pytest.raises(OSError, match=f"none of the ports {wanted} to "):
        free_port(wanted, taken)


def test_members_have_their_ports_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = {5101}
    monkeypatch.setattr(layout, "is_free", lambda port: port not in busy)
    first, second = layout.new_members(2, set())
    assert (first.http_port, first.grpc_port, first.dx_port) == (5000, 5001, 5002)
    assert (second.http_port, second.grpc_port, second.dx_port) == (5100, 5102, 5103)
    assert (second.org, second.node, second.url) == ("org_1", "node_1", "http://127.0.0.1:5100")


def test_what_a_network_is_made_of_is_found_again(tmp_path: Path) -> None:
    place = Layout(tmp_path)
    assert place.load() is None
    state = NetworkState(5545, "0xabc", (MemberState(0, 5000, 5001, 5002),))
    place.save(state)
    assert place.load() == state
    assert [path.name for path in tmp_path.iterdir()] == [layout.STATE_FILE]


def test_a_members_configuration_is_valid_and_its_keys_are_private(tmp_path: Path) -> None:
    member = MemberState(1, 5100, 5101, 5102)
    around = Surroundings(5545, "0x" + "ab" * 20)
    (path,) = write_configs(Layout(tmp_path), member, around)
    path.chmod(0o644)
    assert write_configs(Layout(tmp_path), member, around) == [path]
    assert path.stat().st_mode & 0o777 == 0o600
    settings = load(path, {})
    assert settings.warnings == ()
    assert settings.listen.address == "127.0.0.1:5101"
    assert settings.namespaces[0].multiparty is not None
    assert settings.namespaces[0].multiparty.org_name == "org_1"


@pytest.mark.parametrize("text", [b"", b"{", b'{"chain_port": "x"}', b"\xff"])
def test_a_damaged_state_names_the_file_and_the_way_out(tmp_path: Path, text: bytes) -> None:
    (tmp_path / layout.STATE_FILE).write_bytes(text)
    with pytest.raises(StartError, match=r"network\.json is damaged .* --fresh"):
        Layout(tmp_path).load()


def test_only_what_is_a_networks_own_is_its_to_throw_away(tmp_path: Path) -> None:
    place = Layout(tmp_path)
    place.save(NetworkState(5545, "0xabc", (MemberState(0, 5000, 5001, 5002),)))
    for folder in (place.chain, place.content, place.logs, place.member(0), place.member(7)):
        folder.mkdir()
    (tmp_path / f"{layout.STATE_FILE}.part").touch()
    (tmp_path / "thesis.tex").touch()
    (tmp_path / "member_list").mkdir()
    assert {path.name for path in place.entries()} == {
        *("chain", "content", "logs", "member0", "member7"),
        *("network.json", "network.json.part"),
    }
