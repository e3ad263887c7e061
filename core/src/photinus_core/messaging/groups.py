"""Turns recipients into a privacy group (FireFly internals 1.8).

A group is named by the hash of its members, so the same recipients always give the same group. The
sender's own organisation and node are added when they are missing; members are sorted by identity,
then node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from photinus_core.identity.resolution import IdentityResolver
from photinus_core.messaging.inputs import GroupInput
from photinus_core.model import canonical
from photinus_core.model.errors import NotFound, Rejected
from photinus_core.model.ids import Hash32, Nanoseconds
from photinus_core.model.messages import Group, GroupMember
from photinus_core.model.names import check_name
from photinus_core.ports.scope import Scope

GROUPS_KNOWN_MAX: Final = 10_000
"""Most remembered groups; beyond it the memory begins anew."""


@dataclass(frozen=True, slots=True)
class ResolvedGroup:
    """A group, and whether it has to be introduced to its members first."""

    group: Group
    is_new: bool


class GroupResolver:
    """Finds or makes the groups of one namespace."""

    def __init__(
        self,
        scope: Scope,
        identities: IdentityResolver,
        node_name: str,
    ) -> None:
        self._store = scope.store
        self._namespace = scope.namespace
        self._network_name = scope.network_name
        self._identities = identities
        self._node_name = node_name
        self._known: dict[Hash32, Group] = {}

    async def by_hash(self, group_hash: Hash32) -> Group:
        """Finds a group that exists.

        Raises:
            NotFound: FF10226.
        """
        known = self._known.get(group_hash)
        if known is not None:
            return known
        async with self._store.read(self._namespace) as reader:
            group = (await reader.groups([group_hash])).get(group_hash)
        if group is None:
            raise NotFound("FF10226", group_hash)
        return self.remember(group)

    async def resolve(self, recipients: GroupInput, now: Nanoseconds) -> ResolvedGroup:
        """Finds the group of some recipients, or makes it (it is not stored yet).

        Raises:
            Rejected: FF00115 nobody is named, FF10224 unknown node, FF10422 a node belongs to
                somebody else.
            NotFound: FF10277 unknown member.
        """
        if not recipients.members:
            raise Rejected("FF00115")
        if recipients.name:
            check_name(recipients.name, "name")
        members = {await self._member(m.identity, m.node) for m in recipients.members}
        members |= await self._own(members)
        ordered = tuple(
            GroupMember(identity=did, node=node)
            for did, node in sorted((m.identity, m.node) for m in members)
        )
        group_hash = canonical.group_hash(
            self._network_name, recipients.name, [(m.identity, m.node) for m in ordered]
        )
        try:
            return ResolvedGroup(await self.by_hash(group_hash), is_new=False)
        except NotFound:
            group = Group(
                namespace=self._namespace,
                network_namespace=self._network_name,
                name=recipients.name,
                members=ordered,
                hash=group_hash,
                created=now,
            )
            return ResolvedGroup(group, is_new=True)

    def remember(self, group: Group) -> Group:
        """Remembers a stored group; groups never change."""
        if len(self._known) >= GROUPS_KNOWN_MAX:
            self._known.clear()
        self._known[group.hash] = group
        return group

    async def _member(self, identity: str, node: str) -> GroupMember:
        member = await self._identities.member(identity)
        if not node:
            return GroupMember(member.did, (await self._identities.node_for(member)).id)
        found = await self._identities.node(node)
        if found.parent is None or not await self._identities.is_within(member, found.parent):
            raise Rejected("FF10422", found.did, member.did)
        return GroupMember(member.did, found.id)

    async def _own(self, members: set[GroupMember]) -> set[GroupMember]:
        """Our organisation and node, when no member uses our node."""
        node = await self._identities.node(self._node_name)
        if any(m.node == node.id for m in members):
            return set()
        if self._identities.root_did is None:
            raise Rejected("FF10414")
        return {GroupMember(self._identities.root_did, node.id)}
