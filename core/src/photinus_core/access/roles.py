"""What a caller may do: pure decisions over what it has proven and what was granted.

Roles are per namespace: a *reader* sees, a *writer* also sends and changes, an *operator* also does
what concerns the member as a whole. An operator of all namespaces (`*`) operates the node, too. Of
the grants of an authenticator the first that fits counts, as in a firewall.

Where two layers are to be passed (`http.auth` and a namespace's plugin) the smaller role counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final

from photinus_core.access.refusals import forbidden, unauthorized
from photinus_core.model.errors import Forbidden, Unauthenticated

ALL: Final = "*"
"""In a grant: whoever is proven, or every namespace."""
ORG_PREFIX: Final = "did:firefly:org/"


class Role(IntEnum):
    """What a caller may do in a namespace; each role includes the ones below."""

    READER = 1
    WRITER = 2
    OPERATOR = 3


class Scope(Enum):
    """What a call is about."""

    NAMESPACE = "namespace"
    ANY = "any namespace"
    """The node as far as each caller may see it: lists, streams before their first start, documents."""
    NODE = "the node (all namespaces)"
    SPI = "the SPI"


@dataclass(frozen=True, slots=True)
class Need:
    """What a call needs.

    Attributes:
        namespace: Of scope NAMESPACE; empty for the default one.
    """

    scope: Scope
    role: Role
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """The identity that a caller sends as.

    Attributes:
        author: Its DID.
        key: The only key it signs with; empty leaves that to the author's keys.
    """

    author: str
    key: str = ""

    def signer(self, author: str, key: str) -> tuple[str, str]:
        """Author and key of what a caller sends, filled in where it left them out.

        Raises:
            Forbidden: FF00170, they are another's.
        """
        if author and as_did(author) != self.author:
            raise forbidden(f"you send as {self.author}, not as {author}")
        if self.key and key and key.lower() != self.key.lower():
            raise forbidden(f"you sign with {self.key}, not with {key}")
        return self.author, key or self.key


@dataclass(frozen=True, slots=True)
class Grant:
    """What some callers may do somewhere.

    Attributes:
        users: Names; `*` for all that are proven.
        groups: Groups of a token, of which one suffices.
        namespaces: Names; `*` for all, and with role OPERATOR the node.
        binding: The identity they send as; None leaves them the choice.
    """

    role: Role
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = (ALL,)
    binding: Binding | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """What one authenticator says of a caller.

    Attributes:
        expires_s: When it is worth nothing any more, in seconds of the epoch; None for never.
    """

    authenticator: str
    name: str
    groups: frozenset[str] = frozenset()
    expires_s: float | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls; without a proof, nobody in particular."""

    proofs: tuple[Proof, ...] = ()

    def expires_s(self) -> float | None:
        """When the first of its proofs expires."""
        times = [proof.expires_s for proof in self.proofs if proof.expires_s is not None]
        return min(times, default=None)


NOBODY: Final = Caller()


@dataclass(frozen=True, slots=True)
class Rights:
    """What a caller may do here."""

    role: Role
    binding: Binding | None = None


UNLIMITED: Final = Rights(Role.OPERATOR)


@dataclass(frozen=True, slots=True)
class Policy:
    """What was granted to whom, and what must be proven where.

    Attributes:
        default_namespace: The one that calls without a namespace mean.
        grants: Of each authenticator.
        namespaces: Authenticators of each namespace, one of which must know the caller; none opens it.
        http: Authenticator that must know every caller besides; empty for none.
        spi: Authenticator of the SPI; empty leaves it to operators of the node.
    """

    default_namespace: str = ""
    grants: Mapping[str, tuple[Grant, ...]] = field(default_factory=dict)
    namespaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    http: str = ""
    spi: str = ""

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything."""
        return not (self.http or self.spi or any(self.namespaces.values()))

    def check(self, caller: Caller, need: Need) -> Rights:
        """Gives what a caller may do where it wants to do something.

        Raises:
            Unauthenticated: FF00169, it has not proven itself to those who are asked here.
            Forbidden: FF00170, it has, and may not do this.
        """
        rights = self._rights(caller, need)
        if rights.role < need.role:
            where = need.scope.value
            if need.scope is Scope.NAMESPACE:
                where = f"namespace '{self._named(need)}'"
            raise forbidden(f"this needs the role {need.role.name.lower()} in {where}")
        return rights

    def _rights(self, caller: Caller, need: Need) -> Rights:
        match need.scope:
            case Scope.NAMESPACE if self._named(need) in self.namespaces:
                return self._in_namespace(caller, self._named(need))
            case Scope.NAMESPACE | Scope.ANY:
                # Who may see nothing here shall not learn which namespaces there are.
                return self._anywhere(caller)
            case Scope.NODE:
                return self._on_node(caller)
            case Scope.SPI:
                if self.spi:
                    return self._by((self.spi,), caller, ALL)
                return self._on_node(caller)

    def _named(self, need: Need) -> str:
        return need.namespace or self.default_namespace

    def _in_namespace(self, caller: Caller, namespace: str) -> Rights:
        asked = self.namespaces[namespace]
        layers = [self._by(names, caller, namespace) for names in (self._http, asked) if names]
        role = min((layer.role for layer in layers), default=Role.OPERATOR)
        # The namespace's own word counts before that for all.
        bindings = (layer.binding for layer in reversed(layers) if layer.binding is not None)
        return Rights(role, next(bindings, None))

    def _anywhere(self, caller: Caller) -> Rights:
        """The rights of a caller where it has most."""
        best, failure = None, None
        for namespace in self.namespaces:
            try:
                found = self._in_namespace(caller, namespace)
            except (Unauthenticated, Forbidden) as refused:
                # That somebody is known and may not says more than that it is not known.
                failure = refused if not isinstance(failure, Forbidden) else failure
            else:
                best = found if best is None or found.role > best.role else best
        if best is not None:
            return Rights(best.role)
        if failure is None:  # no namespace at all
            return self._by(self._http, caller, ALL) if self.http else UNLIMITED
        raise failure

    def _on_node(self, caller: Caller) -> Rights:
        """An operator of all namespaces operates the node: by `http.auth`, or without it by any plugin."""
        if not self.http and not any(self.namespaces.values()):
            return UNLIMITED
        if self.http:
            return self._by(self._http, caller, ALL)
        return self._by([name for name in self.grants if name != self.spi], caller, ALL)

    @property
    def _http(self) -> tuple[str, ...]:
        return (self.http,) if self.http else ()

    def _by(self, authenticators: Collection[str], caller: Caller, namespace: str) -> Rights:
        """The rights that some authenticators' grants give; of several the greatest."""
        proofs = [proof for proof in caller.proofs if proof.authenticator in authenticators]
        if not proofs:
            raise unauthorized()
        found = [
            grant
            for proof in proofs
            if (grant := _first(self.grants.get(proof.authenticator, ()), proof, namespace))
        ]
        if not found:
            where = "for the whole node" if namespace == ALL else f"in namespace '{namespace}'"
            raise forbidden(f"nothing is granted to you {where}")
        best = max(found, key=lambda grant: grant.role)
        return Rights(best.role, best.binding)


def as_did(author: str) -> str:
    """The DID of an author that may be an organisation's name."""
    return author if author.startswith("did:") else ORG_PREFIX + author


def _first(grants: Iterable[Grant], proof: Proof, namespace: str) -> Grant | None:
    return next((g for g in grants if _is_for(g, proof) and _covers(g, namespace)), None)


def _is_for(grant: Grant, proof: Proof) -> bool:
    named = proof.name in grant.users or ALL in grant.users
    return named or not proof.groups.isdisjoint(grant.groups)


def _covers(grant: Grant, namespace: str) -> bool:
    return namespace in grant.namespaces or ALL in grant.namespaces
