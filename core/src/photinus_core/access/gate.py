"""What the rest of the core asks: who is this, and may they?

    gate = Gate(settings, SystemClock())
    await gate.open()                                   # password files must be readable
    work.start("access", gate.run())                    # keeps files and keys current
    rights = await gate.admit(authorization, Need(Scope.NODE, Role.OPERATOR))

A server of another kind (metrics on a port of its own, the SPI) calls `admit` with the value of its
`Authorization` header; gRPC servers use `rpc.access.AccessInterceptor`, which does it for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from photinus_core.access.credentials import Credential, Password, Token, read_credential
from photinus_core.access.passwords import Passwords
from photinus_core.access.refusals import unauthorized
from photinus_core.access.roles import ALL, NOBODY, Caller, Grant, Need, Policy, Rights, Role
from photinus_core.access.settings import (
    AccessSettings,
    AuthenticatorSettings,
    PasswordSettings,
    TokenSettings,
)
from photinus_core.access.tokens import Tokens
from photinus_core.model.errors import (
    Exhausted,
    PhotinusError,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from photinus_core.model.ids import Nanoseconds
from photinus_core.ports.clock import Clock

log: Final = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""How often files are looked at, and whether keys are due."""
REALM: Final = "photinus"

Authenticator = Passwords | Tokens


class Gate:
    """Decides about every call. It never blocks the loop, and holds no secret longer than it must.

    Args:
        settings: Who may do what.
        clock: Tells what has expired.

    Attributes:
        is_open: Whether everybody may do everything, as without any configuration.
    """

    def __init__(self, settings: AccessSettings, clock: Clock) -> None:
        self._clock = clock
        self._settings = settings
        self._made: dict[str, Authenticator] = {}
        self._troubles: dict[str, tuple[str, Nanoseconds]] = {}
        self._policy = Policy()
        self.is_open = True
        self._put(settings, {})

    def now_s(self) -> float:
        """The time as expiry is judged, in seconds of the epoch."""
        return self._clock.now() / 1e9

    async def open(self) -> None:
        """Reads all files for the first time.

        Raises:
            Rejected: FF19305, a password file cannot be used. (Keys may come later.)
        """
        for made in self._made.values():
            if isinstance(made, Passwords):
                await made.look()
                if made.trouble:
                    raise Rejected("FF19305", made.name, made.trouble)

    async def run(self) -> None:
        """Keeps files and keys current until cancelled."""
        while True:
            async with asyncio.TaskGroup() as group:
                for made in self._made.values():
                    group.create_task(made.look())
            self._note()
            await asyncio.sleep(LOOK_S)

    async def change(self, settings: AccessSettings) -> None:
        """Takes other settings. Authenticators that did not change keep what they know.

        Raises:
            Rejected: FF19305, a password file cannot be used; the former settings stay in force.
        """
        former, kept = self._settings, {}
        for each in settings.all:
            before = next((a for a in former.all if a.name == each.name), None)
            if before is not None and before.how == each.how:
                kept[each.name] = self._made[each.name]
        made = {each.name: kept.get(each.name) or self._make(each) for each in settings.all}
        for one in made.values():
            if isinstance(one, Passwords):
                await one.look()
                if one.trouble and one.name not in kept:
                    raise Rejected("FF19305", one.name, one.trouble)
        gone = [one for name, one in self._made.items() if made.get(name) is not one]
        self._put(settings, made)
        for one in gone:
            await one.aclose()

    async def aclose(self) -> None:
        """Ends what it has begun."""
        for made in self._made.values():
            await made.aclose()

    def troubles(self) -> list[tuple[str, Nanoseconds]]:
        """What is wrong with files and keys as they are now, and since when."""
        return list(self._troubles.values())

    def _note(self) -> None:
        former, self._troubles = self._troubles, {}
        for name, made in self._made.items():
            if not made.trouble:
                continue
            text = f"{name}: {made.trouble}"
            known = former.get(name, ("", self._clock.now()))
            if text != known[0]:
                log.error("what is there now does not count: %s", text)
            self._troubles[name] = (text, known[1])

    async def authenticate(self, authorization: str) -> Caller:
        """Finds who calls. Where everything is open, and without credentials, that is nobody.

        Args:
            authorization: Value of `Authorization`; empty for none.

        Raises:
            Unauthenticated: FF00169, nobody knows these credentials; `challenge` says what to use.
            Unavailable: FF19060, the keys of a token's issuer cannot be had.
            Exhausted: FF19009, too many passwords are being checked.
        """
        if self.is_open or not authorization:
            return NOBODY
        try:
            credential = read_credential(authorization)
        except Unauthenticated as failure:
            raise self._challenging(failure, None) from failure
        if credential is None:
            return NOBODY
        proofs, failures = [], []
        for made in list(self._made.values()):
            try:
                proof = await made.prove(credential)
            except (Unauthenticated, Unavailable, Exhausted) as failure:
                failures.append(failure)
            else:
                proofs += [proof] if proof is not None else []
        if not proofs:
            raise self._why(failures, credential)
        return Caller(tuple(proofs))

    def check(self, caller: Caller, need: Need) -> Rights:
        """Gives what a caller may do there; waits for nothing.

        Raises:
            Unauthenticated: FF00169, it must prove itself; `challenge` says how.
            Forbidden: FF00170, it may not.
        """
        try:
            return self._policy.check(caller, need)
        except Unauthenticated as failure:
            raise self._challenging(failure, None) from failure

    async def admit(self, authorization: str, need: Need) -> Rights:
        """Both in one: finds who calls, and whether it may; errors as theirs."""
        return self.check(await self.authenticate(authorization), need)

    def _why(self, failures: Sequence[PhotinusError], credential: Credential) -> PhotinusError:
        """What to tell of several refusals: what can be mended first."""
        for failure in failures:
            if not isinstance(failure, Unauthenticated):
                return failure
        told = [f for f in failures if isinstance(f, Unauthenticated)]
        # Of several issuers the one that the token names has the most to say.
        best = next((f for f in told if "another issuer" not in f.text), told[0] if told else None)
        return self._challenging(best or unauthorized(), credential)

    def _challenging(
        self, failure: Unauthenticated, credential: Credential | None
    ) -> Unauthenticated:
        """Says how to prove oneself, as RFC 6750 §3 and RFC 7617 §2 have it."""
        schemes = dict.fromkeys(made.scheme for made in self._made.values())
        challenges = []
        for scheme in schemes:
            challenge = f'{scheme} realm="{REALM}"'
            if scheme == Passwords.scheme:
                challenge += ', charset="UTF-8"'
            elif isinstance(credential, Token):
                challenge += ', error="invalid_token"'
            challenges.append(challenge)
        failure.challenge = ", ".join(challenges)
        if isinstance(credential, Password):
            log.info("credentials were refused: unknown user or wrong password")
        elif credential is not None:
            log.info("credentials were refused: %s", failure)
        return failure

    def _make(self, settings: AuthenticatorSettings) -> Authenticator:
        match settings.how:
            case PasswordSettings(file=file):
                return Passwords(settings.name, file)
            case TokenSettings():
                return Tokens(settings.name, settings.how, self._clock)

    def _put(self, settings: AccessSettings, made: Mapping[str, Authenticator]) -> None:
        self._made = {e.name: made.get(e.name) or self._make(e) for e in settings.all}
        self._settings, self._policy = settings, policy_of(settings)
        self.is_open = self._policy.is_open


def policy_of(settings: AccessSettings) -> Policy:
    """The rules of settings. Without grants all users of a password file may do everything there."""
    grants: dict[str, tuple[Grant, ...]] = {}
    for each in settings.all:
        using = tuple(n for n, names in settings.namespaces.items() if each.name in names)
        everything = Grant(Role.OPERATOR, (ALL,), namespaces=using or (ALL,))
        grants[each.name] = (everything,) if each.grants is None else each.grants
    return Policy(
        settings.default_namespace,
        grants,
        settings.namespaces,
        settings.http.name if settings.http else "",
        settings.spi.name if settings.spi else "",
    )
