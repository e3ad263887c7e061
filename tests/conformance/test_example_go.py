"""Goal: the connector in Go, written from the generated stubs alone, keeps the protocol.

Method: as for our own connectors: launched as the core would launch it, the full profile, and a list of
what does not apply. One payload in its directory was changed behind its back.
"""

import hashlib
from pathlib import Path

from photinus_sanity import Setup

from tests.conformance.test_our_connectors import verify

SUBMITTING = {"CFG-014", "DLN-003", "DLN-004", "LIM-004", "LIM-006"} | {
    f"IDM-0{number:02}" for number in (2, 4, 5, 9, 10, 11, 12)
}
SECRETS = {"SEC-001", "SEC-002"}


async def test_the_connector_in_go_passes_the_full_profile(tmp_path: Path) -> None:
    """It makes no events, submits nothing, has no pins, and serves one instance."""
    reference = hashlib.sha256(b"what was stored").hexdigest()
    objects = tmp_path / "shared" / "objects"
    objects.mkdir(parents=True)
    (objects / reference).write_bytes(b"what was changed")
    storage = {
        "corruptReference": reference,
        "absentReference": hashlib.sha256(b"never stored").hexdigest(),
    }
    setup = Setup({"directory": str(tmp_path / "shared")}, {"sharedStorage": storage})
    left_out = {"EVT", "BLK", "TOK", "DX", "CFG-011", "STO-008", *SECRETS, *SUBMITTING}
    await verify("photinus-example-go", setup, left_out)
