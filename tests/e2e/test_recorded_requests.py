"""Goal: a client of FireFly is answered here as there.

Method: all that was recorded from a real FireFly in this area (requests, WebSocket frames, webhook calls) happens
again, in its order, on two new members, one with PostgreSQL and one with SQLite. Answers must be the recorded ones,
value by value, up to ids, hashes, times and counters (`tests.support.likeness`); contracts and tokens, and what they
left in lists, are taken out by `scripts/recorded_scope.py`. `EVERYWHERE` and `DIFFERENT` say where we differ, and why;
docs/divergences.md has the rows. Then FireFly's Node SDK makes every call it has on the same members.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web
from photinus_core.app.devnet.layout import DEV_ADDRESSES

from scripts.recorded_scope import Scope
from tests.support.golden import REPOSITORY
from tests.support.hooks import Hook, hook_server
from tests.support.pair import pair_up
from tests.support.postgres import PostgresServer, create_database
from tests.support.replay import Line, Replay, recorded_lines
from tests.support.solo import Solo

SDK: Final = REPOSITORY / ".toolchain" / "firefly-sdk" / "node_modules"
DRIVER: Final = Path(__file__).with_name("firefly_sdk") / "drive.js"
COMMAND_S: Final = 200.0
UNUSED_KEY: Final = DEV_ADDRESSES[3]
"""Held by the first member, and no identity's."""
JSON: Final = {"Content-Type": "application/json"}
TEST_S: Final = 900
"""Some ten times what a test takes on an idle machine."""
PLAYED_MIN: Final = 600
DATABASE: Final = "recorded"
NOT_SENT: Final = {
    "a00119": "it asks for a confirmation within 20 ms, which sometimes comes",
    "a00132": "nobody means an unpinned broadcast: refused",
    "a00146": "a member's node may be a UUID: accepted, which FireFly did not",
    "a00147": "a member's node may be a name: likewise",
    "a00731": "the author of a private message must be of its group: refused",
    "a00732": "asks for that message",
    "a00733": "likewise",
    "a00765": "what stands behind the end of the JSON is refused",
}
"""What cannot be replayed, for it makes here what it did not there, or the other way round."""
REFUSED: Final = ("a00198",)
"""What is sent, and makes nothing here."""
CHUNKS: Final = "how many events come at once depends on how fast they are read"
WAITING: Final = {"a00183": "a00185", "a00521": "a00522"}
"""Requests that wait for a reply begin with what they lead to: line that follows, line of the request."""

EVERYWHERE: Final = {
    r"\.info\.subscription is 'contract-0'": "the ledger's stream is named by our connector",
    r"\.(info|detail)\.\w+ is": "what a connector tells of its events and operations is its own",
    r"output\.timestamp is": "the time of a block",
    r"input\.payloadRef is missing": "a pin's operation is made before its batch is uploaded",
    r"\.output is extra: \{'receipt'": "our data exchange tells whether the receiver has stored it",
    r"mimetype is 'text/plain', recorded 'form-data": "a file's content type, not the form's",
    r"GET \S*fetchdata.* \$\S*\.blob is extra": "data inside a message names its blob",
    r"GET .*\$\S*\.pins is missing": "nonces are recomputed, a payload's are ignored: receivers show none",
    r"POST /api/v1/(network|identities)\S* \$\.(created|updated) is extra": "registrations are whole",
    r"POST /api/v1/(network|identities)\S* \$\.namespace is 'default', recorded ''": "likewise",
    r"batches\S* \$\S*\.confirmed is '\S+', recorded None": "a pinned batch shows when it was decided",
    r"plugins\.events\[\d\]\.pluginType is": "event plugins stand in one order, FireFly's in any",
    r"\.userAgent is": "this is another client",
}
"""Differences that are known wherever they come: pattern of line and difference, why."""
SOMETIMES: Final = {
    r"GET /api/v1/messages\?.* is in another order": "what is sent at once is stored as it is sealed",
    r"\.(tx|txid|batch) is '": "batches are cut when nothing is under way, not by a timer",
    r"\.contracts\.active\.status is 'syncing'": "at the very start",
}
"""Likewise, but they need not come in every run."""

SERVER_ERROR: Final = "FireFly answers a mistake of the client's with 500, or drops the connection"
TEXT: Final = "the text behind the code is FireFly's library's"
DECODER: Final = "FireFly answers with the text of Go's decoder, without a code"
REJECTION: Final = "a rejection is told, FireFly waits for ever"
HASHES: Final = "finds by chance: hashes are others"
SECONDS: Final = "blocks of one second stand in another order"
BY_CHANCE: Final = {CHUNKS, HASHES, SECONDS}
"""Reasons for which a line may differ, and need not in every run."""
TERMINATED: Final = "a contract without a next one is not terminated"
COUNTED: Final = "what was refused before does not count"
DIFFERENT: Final = {
    **dict.fromkeys(("a00009", "a00052", "a00060"), SERVER_ERROR),
    **dict.fromkeys(("a00016", "a00742", "a00745"), REJECTION),
    "a00020": "the second member has SQLite",
    "a00031": "operations of one bucket stand in another order, and downloads count as they come",
    "a00133": "the recorded request was shortened",
    "a00172": "the transaction of unpinned messages is shown to their receivers",
    "a00175": "the status of unpinned transactions is told",
    "a00178": SERVER_ERROR,
    "a00183": "a message is confirmed before its event is told",
    "a00197": "data of definitions have the validator of definitions",
    "a00198": "a datatype that exists is refused at once",
    **dict.fromkeys(("a00201", "a00213", "a00216", "a00220"), TEXT),
    "a00231": "a missing blob is told from missing data",
    "a00233": SERVER_ERROR,
    "a00235": COUNTED,
    **dict.fromkeys(("a00247", "a00311"), COUNTED),
    "a00248": "the folders at the top are listed without a slash, too",
    "a00251": "a folder may begin with a slash",
    "a00274": "the absent value of a file is absent",
    "a00278": "the idempotency key of a publication counts",
    **dict.fromkeys(("a00326", "a00361"), "it is shown"),
    "a00296": "absent is absent: `?` finds what has no tag",
    **dict.fromkeys(("a00299", "a00316"), TEXT),
    "a00318": SERVER_ERROR,
    "a00324": HASHES,
    "a00348": "next pins are those of authors who have sent",
    "a00350": SERVER_ERROR,
    "a00354": SECONDS,
    "a00362": "the operations of a publication refused above are missing",
    "a00365": "the live status is our connector's",
    "a00368": "the copy is answered as it stands when it was carried out",
    "a00370": "what is uploaded again has the address it had",
    "a00371": SERVER_ERROR,
    **dict.fromkeys(("a00386", "a00387"), "history begins at the start of the log"),
    **dict.fromkeys(("a00389", "a00390"), SERVER_ERROR),
    "a00391": TEXT,
    **dict.fromkeys(("a00440", "a00442", "a00444"), CHUNKS),
    "a00488": "`nack` is an action",
    "a00522": "the answer carries the headers of another server",
    "a00525": "a message in an event shows its idempotency key, to its sender",
    **dict.fromkeys(("a00730", "a00764"), SERVER_ERROR),
    **dict.fromkeys(
        ("a00746", "a00747"), "those of the messages that were refused above are missing"
    ),
    **dict.fromkeys(("a00760", "a00761", "a00762", "a00763"), DECODER),
    **dict.fromkeys(("a00753", "a00759", "a00801"), "our own page, icon and document"),
    **dict.fromkeys(
        ("a00770", "a00771", "a00772"), "a wrong method is refused with a text and a code"
    ),
    "a00773": "browsers ask before they send",
    **dict.fromkeys(("a00804", "a00805", "a00806", "a00807", "a00808"), TERMINATED),
}
"""Lines that are answered otherwise, and why."""


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[tuple[Solo, Solo]]:
    """Two new members of one network, nobody registered."""
    url = asyncio.run(create_database(postgres_server, DATABASE))
    with pair_up(tmp_path_factory.mktemp("recorded"), url) as members:
        yield members


async def answer(_hook: Hook) -> web.StreamResponse:
    """What the recorded listener answered."""
    headers = {"Content-Type": "application/json", "X-Sample": "s1"}
    return web.Response(body=b'{"ok":true}', headers=headers)


class Known:
    """Which differences are known wherever they come, and which of them came."""

    def __init__(self) -> None:
        self.came: set[str] = set()

    def everywhere(self, line: Line, difference: str) -> bool:
        asked = f"{line.get('method')} {line.get('path')} {difference}"
        for pattern in (*EVERYWHERE, *SOMETIMES):
            if re.search(pattern, asked):
                self.came.add(pattern)
                return True
        return False

    def allows(self, line: Line, difference: str) -> bool:
        return line["id"] in DIFFERENT or self.everywhere(line, difference)


@pytest.mark.timeout(TEST_S)
async def test_what_was_recorded_happens_again(pair: tuple[Solo, Solo]) -> None:
    lines = recorded_lines()
    by_id: Mapping[str, Line] = {line["id"]: line for line in lines}
    scope, known, played = Scope({*NOT_SENT, *REFUSED}), Known(), 0
    differing: dict[str, list[str]] = defaultdict(list)
    async with hook_server() as hooks:
        hooks.handler = answer
        async with Replay(pair, hooks, scope, known.allows) as replay:
            for line in lines:
                if line["id"] in WAITING:
                    replay.begin(by_id[WAITING[line["id"]]])
                if line["id"] in NOT_SENT or not scope.is_replayed(line):
                    replay.pass_over(line)
                    continue
                played += 1
                for found in await replay.play(line):
                    if not known.everywhere(line, found):
                        differing[line["id"]].append(found)
            assert replay.called_besides() == []
    surprising = {
        f"{each} {by_id[each].get('method')} {by_id[each].get('path')}": found
        for each, found in differing.items()
        if each not in DIFFERENT
    }
    assert not surprising, json.dumps(surprising, indent=1)
    assert played >= PLAYED_MIN
    assert EVERYWHERE.keys() <= known.came, "patterns that are not needed any more"
    needed = {each for each, why in DIFFERENT.items() if why not in BY_CHANCE}
    assert needed <= differing.keys(), "rows that are not needed any more"


@pytest.mark.timeout(TEST_S)
def test_fireflys_node_sdk_does_all_it_can(pair: tuple[Solo, Solo]) -> None:
    """`firefly_sdk/drive.js` calls all there is; it is installed by set-up for tests."""
    assert SDK.exists(), "run `scripts/setup test`"
    for each in pair:
        for what in ("organizations", "nodes"):
            each.request("POST", f"/network/{what}/self?confirm=true", b"{}", JSON)
    for each in pair:
        each.wait_for("/network/nodes", lambda found: len(found) == len(pair))
    done = subprocess.run(
        ["node", str(DRIVER), pair[0].url, pair[1].url, UNUSED_KEY],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
        env={**os.environ, "NODE_PATH": str(SDK)},
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert (done.returncode, failed) == (0, []), done.stdout + done.stderr
