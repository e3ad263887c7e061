"""SEC: secrets stay where they are, sockets are private."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from photinus.connector.v1 import connector_pb2 as connector

from photinus_sanity import needs
from photinus_sanity.catalogue import Phase, must, should
from photinus_sanity.probe import Probe
from photinus_sanity.schemas import broken, secrets_in, unmarked_secrets
from photinus_sanity.violations import require
from photinus_sanity.wire import Refusal

RULE = "protocol.md §2: writeOnly marks secrets"


async def _provoke(probe: Probe) -> None:
    """Mistakes around secrets, as operators make them: the connector is tempted to quote."""
    session = probe.session
    for text in (session.settings_json + "}", f"[{session.settings_json}]"):
        request = connector.ValidateRequest(config_json=text)
        await probe.wire.call("ConnectorService.Validate", request, metadata=())
    pointers = {pointer for pointer, _ in secrets_in(session.schema, session.setup.settings)}
    for wrong in broken(session.schema, session.setup.settings):
        if wrong.pointer in pointers:
            continue
        text = json.dumps(wrong.settings)
        request = connector.ValidateRequest(config_json=text)
        await probe.wire.call("ConnectorService.Validate", request, metadata=())
        try:
            await session.configure(probe.wire, text)
        except Refusal:
            return


@must(
    "SEC-001",
    rule=RULE,
    fix="Replace secret values in every log line; do not log settings or requests as they are.",
    phase=Phase.LAST,
    needs=(needs.secrets, needs.restartable),
)
async def logs(probe: Probe) -> None:
    """No secret of the settings appears in what the process prints."""
    await _provoke(probe)
    log = probe.session.target.log()
    lines = [
        number
        for number, line in enumerate(log.splitlines(), 1)
        if any(secret in line for secret in probe.session.ear.secrets)
    ]
    require(
        not lines, f"a secret stands in {len(lines)} lines of its output, first line {lines[:1]}"
    )


@must(
    "SEC-002",
    rule=RULE,
    fix="Name the setting in errors, diagnostics and status; never quote its value.",
    phase=Phase.LAST,
    needs=(needs.secrets,),
)
async def answers(probe: Probe) -> None:
    """No secret of the settings appears in any answer, error or event."""
    await _provoke(probe)
    leaks = probe.session.ear.leaks
    require(not leaks, f"a secret was told in {', '.join(sorted(set(leaks)))}")


@should(
    "SEC-003",
    rule=RULE,
    fix="Mark passwords, keys and tokens with `writeOnly: true` in the schema.",
)
async def marked(probe: Probe) -> None:
    """Settings that look secret by their name are marked writeOnly."""
    found = unmarked_secrets(probe.session.schema)
    require(not found, f"not marked: {', '.join(found)}")


@must(
    "SEC-004",
    rule="protocol.md §1.3: sockets live in a 0700 directory; plain TCP on loopback only",
    fix="Make the socket's directory 0700; bind to 127.0.0.1.",
)
async def private_socket(probe: Probe) -> None:
    """Nobody else can reach the connector: a unix socket in a private directory, or loopback."""
    address = probe.session.target.address
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        open_to = stat.S_IMODE(path.parent.stat().st_mode) & 0o077
        require(not open_to, f"the directory of {path.name} is open to others: {open_to:03o}")
    else:
        host = address.rpartition(":")[0].strip("[]")
        loopback = host in ("localhost", "::1") or host.startswith("127.")
        require(loopback, f"it listens on {host}")
