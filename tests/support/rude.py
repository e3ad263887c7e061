"""A connector for tests that misbehaves as a process of its own, launched by a core.

    python -m tests.support.rude prints|floods|stays|crashes

`prints` tells its configuration to everybody, `floods` has much to say, `stays` neither drains nor
ends when it is told, `crashes` does so while it is configured.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from photinus.connector.v1 import connector_pb2 as connector

from tests.support.liar import Liar

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "password": {"type": "string", "writeOnly": True},
            "keys": {"type": "array", "items": {"$ref": "#/$defs/key"}},
        },
        "$defs": {"key": {"type": "string", "writeOnly": True}},
    }
)
CRASHED = 7
LINES = 30_000


async def prints(request: connector.ConfigureRequest) -> None:
    """Tells everybody."""
    print(f"my configuration is {request.config_json}", flush=True)
    entry = {"level": "error", "message": request.config_json, "exception": request.config_json}
    print(json.dumps(entry), file=sys.stderr, flush=True)


async def floods(_: connector.ConfigureRequest) -> None:
    """Does not stop talking for a while."""
    for number in range(LINES):
        print(f"line {number}", flush=True)


async def crashes(_: connector.ConfigureRequest) -> None:
    """Ends in the middle of the call."""
    os._exit(CRASHED)


async def stays(_: connector.DrainRequest) -> None:
    """Does not answer."""
    await asyncio.Event().wait()


async def main(behaviour: str) -> None:
    """Serves until it is killed, or its input closes."""
    liar = Liar()
    liar.described.config_schema_json = SCHEMA
    if behaviour == "stays":
        liar.drain = stays
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        liar.configure = {"prints": prints, "floods": floods, "crashes": crashes}[behaviour]
    folder = Path(os.environ["PHOTINUS_DATA_DIR"])
    (folder / "liar.sock").unlink(missing_ok=True)
    async with liar.served(folder) as address:
        handshake = {"handshake": 1, "address": address, "protocol": ["v1"], "pid": os.getpid()}
        print(json.dumps(handshake), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
