"""Processes in virtual time: tasks that take turns, and what can happen to a process.

A task is a generator. Wherever real code would await, it yields: a number (that many mean
latencies, at random), a `Wake`, or a `Call` whose answer it wants. In between anything else may
happen, and there a process can be frozen; it may crash before and after each write.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, TypeAlias

from tests.simulation.world import Clock

CRASHES_MAX: Final = 6
"""By process."""


class CrashError(Exception):
    """The process ends here."""


class RefusedError(Exception):
    """Another process says no."""


class DeposedError(Exception):
    """A newer leader is known to whoever was asked."""


class TakenBackError(Exception):
    """What a transaction is about is not stored any more."""


class TroubleError(Exception):
    """No answer: what was asked for may have happened or not."""


class Wake:
    """Something to wait for, by one task at a time."""

    def __init__(self) -> None:
        self._set = False
        self._waiter: Callable[[], None] | None = None

    def set(self) -> None:
        self._set = True
        self._go()

    def wait(self, then: Callable[[], None]) -> None:
        assert self._waiter is None, "two tasks wait for one thing"
        self._waiter = then
        if self._set:
            self._go()

    def _go(self) -> None:
        then, self._waiter = self._waiter, None
        if then is not None:
            self._set = False
            then()


class Call:
    """A request to another process: it is done there whatever becomes of the one that asked."""

    def __init__(
        self, clock: Clock, serve: Callable[[], Any], trouble: float, times: float
    ) -> None:
        self._clock = clock
        self._serve = serve
        self._trouble = trouble
        self._answer: Any = None
        self.failure: Exception | None = None
        self._done = Wake()
        clock.soon(self._run, times)

    def _run(self) -> None:
        rng = self._clock.rng
        lost = bool(self._trouble) and rng.random() < self._trouble
        if not lost or rng.random() < 0.5:
            try:
                self._answer = self._serve()
            except (DeposedError, RefusedError, TakenBackError) as failure:
                self.failure = failure
        if lost:
            self.failure = TroubleError()
        self._done.set()

    def wait(self, then: Callable[[], None]) -> None:
        self._done.wait(then)

    def answer(self) -> Any:
        if self.failure is not None:
            raise self.failure
        return self._answer


Step: TypeAlias = Generator[float | Wake | Call, None, Any]


class Scope:
    """Tasks that rest and end together."""

    def __init__(self, deposed: Callable[[], None]) -> None:
        self.deposed = deposed
        self.paused = False
        self.ended = False
        self.held: list[Callable[[], None]] = []

    def end(self) -> None:
        self.ended = True
        self.held.clear()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        held, self.held = self.held, []
        for go_on in held:
            go_on()


class Process:
    """One process of a member, through all its lives."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.alive = False
        self.life = 0
        self.crashes = 0
        self.frozen = False
        self.freezes = 0
        self._held: list[Callable[[], None]] = []

    def start(self) -> None:
        """Begins a new life; the subclass says with what."""
        self.alive = True
        self.life += 1

    def spawn(self, scope: Scope, work: Step) -> None:
        """Starts a task; it dies with this life of the process, or with its scope."""
        life = self.life
        self.clock.soon(lambda: self._resume(scope, work, life), 0.01)

    def deliver(self, action: Callable[[], None], times: float = 1.0) -> None:
        """Has something happen in this life of the process, by what comes from outside."""
        life = self.life

        def arrive() -> None:
            if life != self.life or not self.alive:
                return
            if self.frozen:
                self._held.append(lambda: self.clock.soon(arrive, 0.5))
                return
            action()

        self.clock.soon(arrive, times)

    def crash(self) -> None:
        """Ends this life; what was asked of others still happens."""
        if not self.alive:
            return
        self.alive = self.frozen = False
        self._held.clear()
        self.crashes += 1
        self.clock.soon(self.start, self.clock.rng.choice([1, 5, 20]))

    def freeze(self, times: float) -> None:
        """Stops everything in the process for a while; what it asked of others still happens."""
        if not self.alive or self.frozen:
            return
        self.frozen = True
        self.freezes += 1
        life = self.life
        self.clock.soon(lambda: self._thaw(life), times)

    def may_crash(self) -> None:
        rate = self.clock.weather.crash_rate
        if rate and self.crashes < CRASHES_MAX and self.clock.rng.random() < rate:
            raise CrashError

    def _thaw(self, life: int) -> None:
        if life != self.life or not self.alive:
            return
        self.frozen = False
        held, self._held = self._held, []
        for go_on in held:
            go_on()

    def _resume(self, scope: Scope, work: Step, life: int) -> None:
        if life != self.life or not self.alive or scope.ended:
            work.close()
            return
        if self.frozen or scope.paused:
            held = self._held if self.frozen else scope.held
            held.append(lambda: self._resume(scope, work, life))
            return
        try:
            pause = work.send(None)
        except StopIteration:
            return
        except CrashError:
            self.crash()
            return
        except DeposedError:
            scope.deposed()
            return

        def go_on() -> None:
            self._resume(scope, work, life)

        if isinstance(pause, (Wake, Call)):
            pause.wait(go_on)
        else:
            self.clock.soon(go_on, pause)
