"""Whether an ensemble's chroot and a database belong together.

Both remember each other: the chroot the id of the database's cluster, the database the id of the ensemble's root. So
two clusters that share a chroot by mistake are found, and so is an ensemble that was rebuilt empty, whose numbers (our
epochs) begin anew.
"""

from __future__ import annotations

from typing import Final

import msgspec

from photinus_core.cluster.ensemble import EnsembleSession
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Namespace, new_uuid
from photinus_core.model.names import RESERVED_NAMESPACE
from photinus_core.ports.store import Store

ROOT: Final = "/cluster"
_NODE: Final = Namespace(RESERVED_NAMESPACE)
_NOTES: Final = "ensemble"
_KEY: Final = "root"


class Root(msgspec.Struct, frozen=True):
    """What the chroot says about itself."""

    database: str
    ensemble: str


async def check_identity(session: EnsembleSession, store: Store) -> None:
    """Sees that chroot and database belong together; makes them so when both are new.

    Raises:
        Rejected: FF19151, the chroot is another cluster's; FF19152, the database knows another ensemble.
    """
    chroot = session.settings.chroot
    async with store.read(_NODE) as reader:
        known = (await reader.notes(_NOTES)).get(_KEY, "")
    root = await _root(session)
    if root is None:
        if known:
            raise Rejected("FF19152", f"{session.settings.hosts}{chroot}")
        await session.create(ROOT, _encode(Root(store.cluster_id, new_uuid())))
        root = await _root(session)  # another replica's, when it was faster
    if root is None or root.database != store.cluster_id:
        raise Rejected("FF19151", chroot, root.database if root else "", store.cluster_id)
    if not known:
        await _remember(store, root.ensemble)
    elif known != root.ensemble:
        raise Rejected("FF19152", f"{session.settings.hosts}{chroot}")


async def rebind(session: EnsembleSession, store: Store) -> None:
    """Makes a database and a rebuilt ensemble belong together. An operator's command; idempotent.

    No replica may run meanwhile. Epochs go on from what the database has.

    Raises:
        Rejected: FF19151, the chroot is another cluster's.
    """
    await session.make_path("")
    await session.create(ROOT, _encode(Root(store.cluster_id, new_uuid())))
    root = await _root(session)
    if root is None or root.database != store.cluster_id:
        raise Rejected(
            "FF19151", session.settings.chroot, root.database if root else "", store.cluster_id
        )
    await _remember(store, root.ensemble)


async def _root(session: EnsembleSession) -> Root | None:
    node = await session.read(ROOT)
    if node is None:
        return None
    try:
        return msgspec.json.decode(node.data, type=Root)
    except msgspec.MsgspecError:
        return Root(node.data.decode(errors="replace")[:80], "")


def _encode(root: Root) -> bytes:
    return msgspec.json.encode(root)


async def _remember(store: Store, ensemble: str) -> None:
    async with store.write(_NODE) as tx:
        await tx.set_notes(_NOTES, {_KEY: ensemble})
