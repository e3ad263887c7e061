"""Goal: the connector in TypeScript, written from the protos alone, keeps the protocol.

Method: as for our own connectors: launched as the core would launch it, the full profile with the
fixture of its README, and a list of what does not apply.
"""

import hashlib
import json
import re

from photinus_sanity import Setup

from tests.conformance.test_our_connectors import verify
from tests.support.chains import ROOT

README = ROOT / "connectors" / "example-typescript" / "README.md"
SECRET = "a secret of alice"
NO_CONTRACTS = {f"BLK-0{number}" for number in (14, 15, 16, 17)}


async def test_the_connector_in_typescript_passes_the_full_profile() -> None:
    found = re.search(r"```json\n(.*?)```", README.read_text(), re.DOTALL)
    assert found
    fixture = json.loads(found[1])
    account = hashlib.sha256(f"memory-ledger/{SECRET}".encode()).hexdigest()[:40]
    assert fixture["blockchain"]["signingKey"] == f"0x{account}"
    left_out = {"TOK", "DX", "STO", "CFG-012", *NO_CONTRACTS}
    await verify("photinus-example-typescript", Setup({"keys": [SECRET]}, fixture), left_out)
