"""Goal: `photinus up --plugins FILE` puts a user's connectors where ours are, and says what is wrong with a file.

Method: a member's configuration as it is written, read again as its core would read it; files that will not do.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from photinus_core.app.config import load
from photinus_core.app.devnet.layout import Layout, MemberState
from photinus_core.app.devnet.member import Surroundings, write_configs
from photinus_core.app.devnet.plugins import check_config, keep_plugins, plugins_of, read_plugins
from photinus_core.app.devnet.processes import StartError

MEMBER = MemberState(1, 5100, 5101, 5102)
REPLICATED = MemberState(1, 5100, 5101, 5102, (5103,), (5120, 5121, 5122))
AROUND = Surroundings(5545, "0x" + "ab" * 20)
LAUNCHED = """
plugins:
  sharedstorage:
    - name: store
      type: mine
      connector: { launch: [my-connector, --fast] }
      mine: { directory: /srv/shared, code: 0x10 }
"""
ATTACHED = """
plugins:
  sharedstorage:
    - {name: store, type: mine, connector: {address: "unix:run/mine.sock"}, mine: {}}
"""


def given(folder: Path, text: str) -> Layout:
    """A network's folder with such a file taken into it."""
    path = folder / "given.yaml"
    path.write_text(text)
    layout = Layout(folder / "network")
    layout.root.mkdir()
    keep_plugins(layout, read_plugins(path))
    return layout


def test_a_members_configuration_has_the_plugins_given_in_place_of_ours(tmp_path: Path) -> None:
    layout = given(tmp_path, LAUNCHED)
    (path,) = write_configs(layout, MEMBER, AROUND)
    check_config(path)
    plugins = {plugin.name: plugin for plugin in load(path, {}).plugins}
    assert set(plugins) == {"database0", "blockchain0", "dataexchange0", "store"}
    store = plugins["store"]
    assert store.connector is not None
    assert store.connector.launch == ("my-connector", "--fast")
    assert store.config == {"directory": "/srv/shared", "code": "0x10"}


def test_what_was_given_is_kept_in_private_and_is_the_networks_own(tmp_path: Path) -> None:
    layout = given(tmp_path, LAUNCHED)
    assert layout.plugins.stat().st_mode & 0o777 == 0o600
    assert layout.plugins in layout.entries()
    assert plugins_of(layout, MEMBER) == plugins_of(layout, MEMBER) != {}


def test_without_a_file_everything_is_ours(tmp_path: Path) -> None:
    assert plugins_of(Layout(tmp_path), MEMBER) == {}


def test_members_at_one_address_are_instances_of_their_own(tmp_path: Path) -> None:
    layout = given(tmp_path, ATTACHED)
    for member, instance in ((MEMBER, "member1"), (MemberState(0, 1, 2, 3), "member0")):
        (store,) = plugins_of(layout, member)["sharedstorage"]
        assert store["connector"] == {"address": "unix:run/mine.sock", "instance": instance}


def test_replicas_attach_and_do_not_launch(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="start store yourself, and give its address"):
        plugins_of(given(tmp_path, LAUNCHED), REPLICATED)


def test_replicas_attach(tmp_path: Path) -> None:
    assert plugins_of(given(tmp_path, ATTACHED), REPLICATED)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plugins: [", "is no YAML"),
        ("", "there must be `plugins:`, and nothing else"),
        ("sharedstorage: []", "there must be `plugins:`, and nothing else"),
        ("plugins: {}", "takes sharedstorage; the others are the network's own"),
        ("plugins: {blockchain: [{name: a}]}", "takes sharedstorage"),
        ("plugins: {sharedstorage: {name: a}}", "sharedstorage must be a list"),
        ("plugins: {sharedstorage: []}", "sharedstorage must be a list"),
        ("plugins: {sharedstorage: [a]}", "sharedstorage must be a list"),
    ],
)
def test_a_file_that_will_not_do_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StartError, match=said):
        given(tmp_path, text)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"--plugins: .*none\.yaml cannot be read"):
        read_plugins(tmp_path / "none.yaml")


def test_what_a_core_would_refuse_is_said_before_it_starts(tmp_path: Path) -> None:
    layout = given(tmp_path, LAUNCHED.replace("connector:", "conector:"))
    (path,) = write_configs(layout, MEMBER, AROUND)
    with pytest.raises(
        StartError, match=r"a member cannot start:\n(.|\n)*Unknown setting .*conector"
    ):
        check_config(path)
