"""Goal: of a changed configuration exactly what differs is restarted, and nothing else is touched.

Method: a table of edits of one configuration text, and Hypothesis over pairs of configurations made
of small parts, so that equal and different ones meet often.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus_core.app.config import ConnectorSettings, NodeSettings, PluginSettings, load_text
from photinus_core.app.config.changes import Changes, compare, refusals
from photinus_core.app.config.settings import ListenSettings, LogSettings
from photinus_core.model.ids import Namespace
from photinus_core.namespaces.settings import NamespaceSettings, PluginRef

BASE = """
config: { autoReload: true }
grpc: { address: "127.0.0.1:5002" }
log: { level: info, filename: core.log }
plugins:
  database:
    - { name: database0, type: sqlite3, sqlite3: { url: core.db } }
  blockchain:
    - { name: chain0, type: ethereum, connector: { address: "unix:a.sock" }, ethereum: { confirmations: 1 } }
    - { name: chain1, type: ethereum, connector: { address: "unix:b.sock" }, ethereum: {} }
namespaces:
  default: one
  predefined:
    - { name: one, plugins: [database0, chain0] }
    - { name: two, plugins: [database0, chain1], description: second }
"""


def read(text: str) -> NodeSettings:
    return load_text(text, "core.yaml", {})


def opened(settings: NodeSettings) -> dict[str, PluginSettings]:
    return {p.name: p for p in settings.plugins if p.category == "database"}


def changes(*edits: tuple[str, str]) -> Changes:
    text = BASE
    for former, latter in edits:
        assert former in text
        text = text.replace(former, latter)
    running = read(BASE)
    return compare(running, read(text), opened(running))


def test_the_same_configuration_changes_nothing() -> None:
    same = changes()
    assert same.is_empty
    assert not same.needs_restart
    assert same.settings == read(BASE)
    assert changes(("\nlog:", "\n# a comment\nlog:")).is_empty


@pytest.mark.parametrize(
    ("former", "latter", "told"),
    [
        ("description: second", "description: other", "namespaces restarted two"),
        (
            "    - { name: two, plugins: [database0, chain1], description: second }\n",
            "",
            "namespaces stopped two",
        ),
        (
            "description: second }",
            "description: second }\n    - { name: three, plugins: [database0] }",
            "namespaces started three",
        ),
        ("confirmations: 1", "confirmations: 2", "connectors changed chain0"),
        ("unix:a.sock", "unix:c.sock", "connectors changed chain0"),
        (
            'connector: { address: "unix:b.sock" }, ',
            "",
            "namespaces restarted two; connectors removed chain1",
        ),
        ("default: one", "default: two", "changed namespaces.default"),
        ("level: info", "level: debug", "changed log.level"),
        ("autoReload: true", "autoReload: false", "changed config.autoReload"),
    ],
)
def test_what_differs_is_changed_alone(former: str, latter: str, told: str) -> None:
    found = changes((former, latter))
    assert found.told() == told
    assert not found.needs_restart


@pytest.mark.parametrize(
    ("former", "latter", "key"),
    [
        ("127.0.0.1:5002", "127.0.0.1:5003", "grpc.address"),
        ("filename: core.log", "filename: other.log", "log.filename"),
        ("filename: core.log", "json: { enabled: true }, filename: core.log", "log.json.enabled"),
        ("url: core.db", "url: other.db", "plugins.database[database0]"),
        ("config:", "cluster: { replica: r1 }\nconfig:", "cluster.replica"),
    ],
)
def test_what_a_running_process_cannot_change_is_named_and_left(
    former: str, latter: str, key: str
) -> None:
    found = changes((former, latter))
    assert found.needs_restart == (key,)
    assert found.is_empty
    assert found.settings == read(BASE)


def test_other_changes_beside_one_that_needs_a_restart_are_made() -> None:
    found = changes(("127.0.0.1:5002", "127.0.0.1:5003"), ("confirmations: 1", "confirmations: 2"))
    assert found.needs_restart == ("grpc.address",)
    assert found.told() == "connectors changed chain0"


def test_a_namespace_keeps_its_name_on_the_wire() -> None:
    multiparty = (
        "multiparty: { networkNamespace: NAME, org: { name: a, key: '0x1' }, node: { name: n },"
        " contract: [{ location: { address: '0x1' } }] }"
    )
    more = """  dataexchange: [{ name: dx0, type: ffdx }]
  sharedstorage: [{ name: ipfs0, type: ipfs }]
namespaces:"""
    text = BASE.replace("namespaces:", more, 1).replace(
        "plugins: [database0, chain0]", f"plugins: [database0, chain0, dx0, ipfs0], {multiparty}"
    )
    running, wanted = read(text.replace("NAME", "net")), read(text.replace("NAME", "other"))
    assert refusals(running, running) == []
    (refusal,) = refusals(running, wanted)
    assert (refusal.namespace, refusal.key) == ("one", "multiparty.networkNamespace")
    assert "is other, but this namespace was made as net" in str(refusal.failure)


PLUGINS = st.builds(
    PluginSettings,
    name=st.just(""),
    category=st.sampled_from(["blockchain", "sharedstorage"]),
    type=st.just("t"),
    connector=st.none() | st.builds(ConnectorSettings, address=st.sampled_from("ab")),
    config=st.none() | st.sampled_from(["1", "2"]),
)


@st.composite
def settings_(draw: st.DrawFn) -> NodeSettings:
    names = draw(st.sets(st.sampled_from("pqr")))
    plugins = tuple(replace(draw(PLUGINS), name=name) for name in sorted(names))
    databases = tuple(
        PluginSettings(name, "database", "sqlite3", config=draw(st.sampled_from(["u", "v"])))
        for name in ("d0", "d1")
    )
    made = []
    for name in sorted(draw(st.sets(st.sampled_from("xyz"), min_size=1))):
        chosen = draw(st.sampled_from([*plugins, None]))
        made.append(
            NamespaceSettings(
                Namespace(name),
                description=draw(st.sampled_from(["", "text"])),
                database=PluginRef(draw(st.sampled_from(["d0", "d1"])), "sqlite3"),
                blockchain=None if chosen is None else PluginRef(chosen.name, "t"),
            )
        )
    return NodeSettings(
        tuple(made),
        draw(st.sampled_from(made)).name,
        databases + plugins,
        ListenSettings(draw(st.sampled_from(["a:1", "a:2"]))),
        LogSettings(
            draw(st.sampled_from(["info", "debug"])), filename=draw(st.sampled_from(["", "f"]))
        ),
        auto_reload=draw(st.booleans()),
    )


@given(running=settings_(), wanted=settings_())
def test_done_once_nothing_is_left_to_do(running: NodeSettings, wanted: NodeSettings) -> None:
    databases = opened(running)
    first = compare(running, wanted, databases)
    again = compare(first.settings, wanted, databases)
    assert again.is_empty
    assert again.settings == first.settings
    assert again.needs_restart == first.needs_restart


@given(running=settings_(), wanted=settings_())
def test_what_is_not_named_is_as_it_was(running: NodeSettings, wanted: NodeSettings) -> None:
    found = compare(running, wanted, opened(running))
    after = found.settings
    former = {n.name: n for n in running.namespaces}
    latter = {n.name: n for n in after.namespaces}
    named = [*found.namespaces_gone, *found.namespaces_new, *found.namespaces_restarted]
    assert len(named) == len(set(named))
    assert set(found.namespaces_gone) == former.keys() - latter.keys()
    assert set(found.namespaces_new) == latter.keys() - former.keys()
    connectors = [*found.connectors_gone, *found.connectors_new, *found.connectors_changed]
    reached = {p.name: p for p in running.plugins if p.connector is not None}
    for name in latter.keys() - set(named):
        assert latter[name] == former[name]
        for plugin in latter[name].plugin_names - set(found.connectors_changed):
            assert (plugin in reached) == (after.plugin(plugin).connector is not None)
            assert plugin not in connectors
    for each in after.plugins:
        if each.connector is not None and each.name not in connectors:
            assert reached[each.name] == each
    assert after.listen == running.listen
    assert after.log == replace(running.log, level=wanted.log.level)
