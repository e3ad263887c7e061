"""Goal: the committed artefacts are what the sources compile to, and the pin contract is FireFly's version 2.

Method: the pinned compiler in check mode; names and types of the ABI against a table.
"""

import os
import shutil
import subprocess
from typing import Any

from eth_hash.auto import keccak
from photinus_ethereum import pins

from tests.support.chains import ROOT, artefact

TIMEOUT_S = 120


def test_recompiling_gives_the_same_bytes() -> None:
    node = ROOT / ".toolchain" / "bin" / "node"
    found = str(node) if node.exists() else shutil.which("node")
    assert found, "node is not installed; `make setup` does it"
    done = subprocess.run(
        [found, "scripts/compile.js", "--check"],
        cwd=ROOT / "contracts" / "ethereum",
        env={**os.environ, "PHOTINUS_NPM_DIR": str(ROOT / ".toolchain" / "npm")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_contract_has_fireflys_interface() -> None:
    abi: list[dict[str, Any]] = artefact("Firefly")["abi"]
    signatures = {
        f"{entry['type']} {entry['name']}({','.join(part['type'] for part in entry['inputs'])})"
        for entry in abi
    }
    assert signatures == {
        f"event {pins.EVENT_SIGNATURE}",
        "function pinBatch(bytes32,bytes32,string,bytes32[])",
        "function pinBatchData(bytes)",
        "function networkAction(string,string)",
        "function networkVersion()",
    }
    (event,) = [entry for entry in abi if entry["type"] == "event"]
    assert not any(part["indexed"] for part in event["inputs"])
    assert "0x" + keccak(pins.EVENT_SIGNATURE.encode()).hex() == pins.EVENT_TOPIC
    assert pins.EVENT_TOPIC.startswith("0x805721bc246bccc7")
