"""Goal: the configurations that the documents show are ones that load.

Method: each YAML block with a `plugins` section is read as the core reads its file.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from photinus_core.app.config.loader import load_text

DOCS = Path(__file__).resolve().parents[3] / "docs"
BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
EXAMPLES = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in (DOCS / "high-availability.md", DOCS / "operations.md")
    for number, block in enumerate(BLOCK.findall(path.read_text()))
    if "plugins:" in block
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_documented_configuration_loads(text: str) -> None:
    settings = load_text(text, "example.yaml", {})
    assert settings.namespaces
    assert not settings.warnings


def test_the_example_with_replicas_has_what_replicas_need() -> None:
    text = next(str(p.values[0]) for p in EXAMPLES if "zookeeper:" in str(p.values[0]))
    settings = load_text(text, "example.yaml", {})
    ensemble = settings.cluster.ensemble
    assert ensemble is not None
    assert ensemble.hosts == "zk1:2181,zk2:2181,zk3:2181"
    assert (ensemble.chroot, ensemble.session_timeout_s) == ("/photinus/acme", 4.0)
    database = settings.plugin("database0").postgres
    assert database is not None
    assert database.has_several_hosts
    assert database.idle_in_transaction_s < ensemble.session_timeout_s
