"""Goal: a connector's configuration has a higher revision exactly when it is another one.

Method: numbers from a real store, as replicas and restarts of a core ask for them.
"""

from __future__ import annotations

from pathlib import Path

from photinus_core.app.assembly import StoredRevisions
from photinus_core.app.config import PluginSettings
from photinus_core.store import SqliteStore


def plugins(**configs: str) -> list[PluginSettings]:
    return [
        PluginSettings(name, "blockchain", "ledger", config={"setting": value})
        for name, value in configs.items()
    ]


async def test_revisions_rise_with_changes_and_only_with_them(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "core.db")
    try:
        first = await StoredRevisions(store).of(plugins(a="1", b="1"))
        assert first == {"a": 1, "b": 1}
        assert await StoredRevisions(store).of(plugins(a="1", b="1")) == first, "a restart"
        changed = await StoredRevisions(store).of(plugins(a="2"))
        assert changed["a"] > 1
        assert await StoredRevisions(store).of(plugins(a="2", b="1")) == {**changed, "b": 1}
        back = await StoredRevisions(store).of(plugins(a="1"))
        assert back["a"] > changed["a"], "the former one is another change"
    finally:
        await store.aclose()


async def test_no_setting_can_be_read_from_what_is_kept(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "core.db")
    try:
        await StoredRevisions(store).of(plugins(a="hunter2"))
    finally:
        await store.aclose()
    assert b"hunter2" not in (tmp_path / "core.db").read_bytes()
