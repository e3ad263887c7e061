"""Goal: what is found wrong after a file was read is told with its line.

Method: a small file, and paths into it that are there, or only in part.
"""

from __future__ import annotations

import pytest
from photinus_core.app.config.places import Places

TEXT = """plugins:
  blockchain:
    - { name: other, type: ledger }
    - name: chain0
      type: ledger
      ledger:
        rpc:
          url: x
        keys: [a, b]
namespaces:
  predefined:
    - name: one
      multiparty:
        networkNamespace: net
"""


@pytest.mark.parametrize(
    ("pointer", "path", "line"),
    [
        ("/rpc/url", "plugins.blockchain[1].ledger.rpc.url", 8),
        ("/rpc/nosuch", "plugins.blockchain[1].ledger.rpc.nosuch", 8),
        ("/keys/1", "plugins.blockchain[1].ledger.keys.1", 9),
        ("/keys/9", "plugins.blockchain[1].ledger.keys.9", 9),
        ("/keys/x", "plugins.blockchain[1].ledger.keys.x", 9),
        ("/a~1b", "plugins.blockchain[1].ledger.a/b", 7),
        ("", "plugins.blockchain[1].ledger", 7),
    ],
)
def test_a_connectors_setting_is_found(pointer: str, path: str, line: int) -> None:
    places = Places(TEXT, "core.yaml")
    found = places.of_plugin("blockchain", "chain0", "ledger", pointer)
    assert found == path
    assert str(places.problem(found, "no")) == f"core.yaml, line {line}: {path}: no"


def test_a_namespaces_key_is_found() -> None:
    places = Places(TEXT, "core.yaml")
    found = places.of_namespace("one", "multiparty.networkNamespace")
    assert found == "namespaces.predefined[0].multiparty.networkNamespace"
    assert places.problem(found, "no").line == 14


def test_what_is_nowhere_has_no_line() -> None:
    assert Places(TEXT, "core.yaml").problem("elsewhere.key", "no").line == 0
