"""The events that webhooks did not take: what an operator sees of them and does with them.

They are parked by the subscription's server (`webhooks`), bounded per subscription. Trying again is
that server's work as well: here it is only asked for, on whatever replica the operator calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from photinus_core.model.errors import NotFound
from photinus_core.model.events import DeadLetter, DeadLetterState, Event
from photinus_core.model.ids import Namespace, Uuid, new_uuid
from photinus_core.ports.clock import Clock
from photinus_core.ports.store import Fence, Store

DEAD_LETTERS_MAX: Final = 1_000
"""Most dead letters of one subscription; delivery to it waits while there are so many."""
ERROR_CHARS_MAX: Final = 1_000


class DeadLetterService:
    """Dead letters of one namespace."""

    def __init__(
        self, store: Store, namespace: Namespace, clock: Clock, limit: int = DEAD_LETTERS_MAX
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._limit = limit

    async def get(self, subscription: Uuid, letter: Uuid) -> DeadLetter:
        """Finds a dead letter.

        Raises:
            NotFound: FF00164.
        """
        async with self._store.read(self._namespace) as reader:
            found = await reader.dead_letter(subscription, letter)
        if found is None:
            raise NotFound("FF00164")
        return found

    async def retry(self, subscription: Uuid, letter: Uuid) -> DeadLetter:
        """Has a dead letter tried again soon, by the replica that serves the subscription.

        It is gone when the webhook takes it, and parked again when not. Idempotent.

        Raises:
            NotFound: FF00164.
        """
        async with self._store.write(self._namespace) as tx:
            if not await tx.queue_dead_letters(subscription, letter, self._clock.now()):
                raise NotFound("FF00164")
        return await self.get(subscription, letter)

    async def retry_all(self, subscription: Uuid) -> int:
        """Has all dead letters of a subscription tried again; gives how many there are.

        Raises:
            NotFound: FF00164, there is no such subscription.
        """
        async with self._store.write(self._namespace) as tx:
            if await tx.subscription(subscription) is None:
                raise NotFound("FF00164")
            return await tx.queue_dead_letters(subscription, None, self._clock.now())

    async def drop(self, subscription: Uuid, letter: Uuid) -> None:
        """Forgets a dead letter: its event is not delivered to the webhook any more.

        Raises:
            NotFound: FF00164.
        """
        async with self._store.write(self._namespace) as tx:
            if not await tx.delete_dead_letter(subscription, letter):
                raise NotFound("FF00164")

    # The server's side

    async def park(
        self,
        subscription: Uuid,
        events: Sequence[Event],
        failure: tuple[int, int, str],
        fence: Fence | None,
    ) -> bool:
        """Keeps events that a webhook did not take; False when there are too many already.

        Args:
            subscription: Whose events they are.
            events: The events of one call.
            failure: Attempts, HTTP status (0 for no answer) and why.
            fence: Of the server's turn.

        Raises:
            Deposed: the turn is over.
        """
        attempts, status, error = failure
        now = self._clock.now()
        letters = [
            DeadLetter(
                id=new_uuid(),
                namespace=self._namespace,
                subscription=subscription,
                event=event.id,
                event_sequence=event.sequence,
                event_type=event.type,
                state=DeadLetterState.PARKED,
                attempts=attempts,
                status=status,
                error=error[:ERROR_CHARS_MAX],
                created=now,
                updated=now,
            )
            for event in events
        ]
        async with self._store.write(self._namespace, fence) as tx:
            if await tx.subscription(subscription) is None:
                return True
            if await tx.dead_letter_count(subscription) + len(letters) > self._limit:
                return False
            await tx.save_dead_letters(letters)
        return True

    async def settle(
        self, letter: DeadLetter, failure: DeadLetter | None, fence: Fence | None
    ) -> None:
        """Ends a repetition: the dead letter is gone, or as it is given now.

        Nothing happens to one that was dropped meanwhile.

        Raises:
            Deposed: the turn is over.
        """
        async with self._store.write(self._namespace, fence) as tx:
            if failure is None:
                await tx.delete_dead_letter(letter.subscription, letter.id)
            elif await tx.dead_letter(letter.subscription, letter.id) is not None:
                await tx.save_dead_letters([failure])

    async def queued(self, subscription: Uuid, limit: int) -> list[DeadLetter]:
        """Dead letters that are to be tried again, oldest first."""
        async with self._store.read(self._namespace) as reader:
            return await reader.queued_dead_letters(subscription, limit)

    def failed_again(self, letter: DeadLetter, failure: tuple[int, int, str]) -> DeadLetter:
        """A dead letter after one more delivery that failed."""
        attempts, status, error = failure
        return msgspec.structs.replace(
            letter,
            state=DeadLetterState.PARKED,
            attempts=letter.attempts + attempts,
            status=status,
            error=error[:ERROR_CHARS_MAX],
            updated=self._clock.now(),
        )
