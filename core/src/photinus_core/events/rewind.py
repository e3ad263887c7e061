"""Has agreement look again at everything undecided, when an operator asks for it.

Nothing should ever need it: every arrival leaves a wake-up. It is FireFly's way out all the same.
"""

from __future__ import annotations

from photinus_core.events.wakeups import WakeupKind
from photinus_core.model.errors import NotFound, Rejected
from photinus_core.model.ids import Namespace, Uuid
from photinus_core.ports.store import Store, Wakeup


class PinRewind:
    """Rewinds of one namespace; may be asked for at any replica."""

    def __init__(self, store: Store, namespace: Namespace) -> None:
        self._store = store
        self._namespace = namespace

    async def rewind(self, sequence: int | None, batch: Uuid | None) -> int:
        """Has the leader start agreement over; idempotent.

        Returns:
            The sequence that was given, or that of the batch's first pin.

        Raises:
            Rejected: FF00112, neither is given.
            NotFound: FF10109, the batch has no pins here.
        """
        if batch is None and sequence is None:
            raise Rejected("FF00112", "sequence")
        async with self._store.write(self._namespace) as tx:
            if batch is not None:
                pins = await tx.pins_of_batches([batch])
                if not pins:
                    raise NotFound("FF10109")
                sequence = min(pin.sequence for pin in pins)
            await tx.insert_wakeups([Wakeup(WakeupKind.REMOVED, "")])
        assert sequence is not None
        return sequence
