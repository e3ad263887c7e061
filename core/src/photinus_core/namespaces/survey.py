"""Looks at a namespace and says how it is, for the status calls."""

from __future__ import annotations

from typing import Final

from photinus_core.identity.resolution import NODE_PREFIX, ORG_PREFIX
from photinus_core.model import canonical
from photinus_core.model.ids import Uuid
from photinus_core.model.ledger import NetworkContract
from photinus_core.model.messages import MessageState, SystemTag
from photinus_core.model.network import Identity
from photinus_core.model.query import FilterBuilder
from photinus_core.namespaces.settings import MultipartySettings
from photinus_core.namespaces.status import (
    ListenerState,
    MultipartyState,
    Registration,
    RegistrationState,
)
from photinus_core.ports.store import Reader, Table

UNDECIDED: Final = (MessageState.READY, MessageState.SENT, MessageState.PENDING)


async def survey(
    reader: Reader,
    settings: MultipartySettings,
    contracts: tuple[NetworkContract, ...],
    listener: ListenerState,
) -> MultipartyState:
    """Describes the multiparty side of a namespace."""
    org = await reader.identity_by_did(ORG_PREFIX + settings.org_name)
    node = await reader.identity_by_did(NODE_PREFIX + settings.node_name)
    keys = [] if org is None else (await reader.verifiers_of([org.base.id])).get(org.base.id, [])
    running = [c for c in contracts if not c.final_event]
    return MultipartyState(
        org=org,
        org_verifiers=tuple(keys),
        node=node,
        org_registration=await _registration(reader, org, ORG_PREFIX + settings.org_name),
        node_registration=await _registration(reader, node, NODE_PREFIX + settings.node_name),
        active=running[-1] if running else None,
        listener=listener,
        terminated=tuple(c for c in contracts if c.final_event),
    )


async def _registration(reader: Reader, identity: Identity | None, did: str) -> Registration:
    if identity is not None:
        return Registration(RegistrationState.REGISTERED)
    pending = await _pending_claim(reader, did)
    state = RegistrationState.UNREGISTERED if pending is None else RegistrationState.REGISTERING
    return Registration(state, pending)


async def _pending_claim(reader: Reader, did: str) -> Uuid | None:
    """The newest claim of an identity that is not decided yet."""
    f = FilterBuilder(Table.MESSAGES)
    where = f.all(
        f.equal("tag", SystemTag.IDENTITY_CLAIM),
        f.equal("topics", canonical.identity_topic(did)),
        f.one_of("state", UNDECIDED),
    )
    page = await reader.query(Table.MESSAGES, f.query(where, limit=1))
    return page.items[0].header.id if page.items else None
