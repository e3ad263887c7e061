"""What an operator has done to a namespace: deleting what is old."""

from __future__ import annotations

from typing import Final

from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Nanoseconds
from photinus_core.ports.scope import Scope
from photinus_core.ports.store import Prunable, PruneWindow

AGE_MIN_S: Final = 600
"""Nothing younger is deleted: whoever waits for an outcome may still look for its event."""


async def prune(
    scope: Scope, collection: str, before: Nanoseconds, after: int, *, dry_run: bool
) -> PruneWindow:
    """Looks at the next rows of a collection and deletes those that are old and not needed.

    Any replica may do it, several at once too. Call again from `last` while there is more.

    Raises:
        Rejected: FF19002, the collection cannot be pruned, or the moment is too young.
    """
    try:
        chosen = Prunable(collection)
    except ValueError:
        names = ", ".join(Prunable)
        raise Rejected("FF19002", "collection", f"can be {names}, not '{collection}'") from None
    if before > scope.clock.now() - AGE_MIN_S * 1_000_000_000:
        raise Rejected("FF19002", "before", f"must be at least {AGE_MIN_S // 60} minutes ago")
    if dry_run:
        async with scope.store.read(scope.namespace) as reader:
            return await reader.prune_window(chosen, after, before)
    async with scope.store.write(scope.namespace) as tx:
        window = await tx.prune_window(chosen, after, before)
        await tx.prune(chosen, window.free)
    return window
