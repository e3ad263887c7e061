"""Defines datatypes: checks a JSON Schema and sends it to the network."""

from __future__ import annotations

from photinus_core.definitions import rules
from photinus_core.definitions.payloads import DatatypeDefinition, encode_datatype
from photinus_core.identity.resolution import IdentityResolver
from photinus_core.model import canonical
from photinus_core.model.errors import Conflict, Rejected
from photinus_core.model.ids import new_uuid
from photinus_core.model.messages import SystemTag
from photinus_core.model.names import check_name
from photinus_core.model.network import Datatype
from photinus_core.ports.definitions import DefinitionSender, SchemaCompile
from photinus_core.ports.scope import Scope


class DatatypeDefiner:
    """Sends datatypes of one multiparty namespace."""

    def __init__(
        self,
        scope: Scope,
        identities: IdentityResolver,
        sender: DefinitionSender,
        compile_schema: SchemaCompile,
    ) -> None:
        self._scope = scope
        self._identities = identities
        self._sender = sender
        self._compile = compile_schema

    async def define(
        self,
        name: str,
        version: str,
        value: str,
        validator: str = "",
        author: str = "",
        key: str = "",
    ) -> Datatype:
        """Sends a datatype; it exists once the network has confirmed its message.

        Args:
            name: Name; all versions share one topic.
            version: Version; name and version are defined once.
            value: JSON Schema text.
            validator: `json` or empty.
            author: Who defines it; this member's organisation when empty.
            key: What it is signed with; the author's key when empty.

        Raises:
            Rejected: FF10206 author or key, FF00108 unknown validator, FF00112 no schema, FF00140
                name or version, FF10196 the schema is none.
            Conflict: FF10407, this version exists.
        """
        if validator not in ("", "json"):
            raise Rejected("FF00108", validator)
        check_name(name, "name")
        check_name(version, "version")
        if not value or value == "null":
            raise Rejected("FF00112", "value")
        try:
            schema = canonical.compact(value)
        except canonical.InvalidJsonError as failure:
            raise Rejected("FF10196", f"{name}/{version}", failure) from failure
        self._compile(name, version, schema)
        async with self._scope.store.read(self._scope.namespace) as reader:
            known = await reader.datatype(name, version)
        if known is not None:
            raise Conflict("FF10407", "datatype", f"{name}/{version}", known.id)
        made = DatatypeDefinition(
            id=new_uuid(),
            name=name,
            version=version,
            hash=canonical.hash_text(schema),
            created=self._scope.clock.now(),
            value=schema,
        )
        signer = await self._identities.resolve_signer(author, key)
        message = await self._sender.send_definition(
            rules.datatype_topic(name),
            SystemTag.DEFINE_DATATYPE,
            encode_datatype(made),
            signer.author,
            signer.key,
        )
        return Datatype(
            id=made.id,
            namespace=self._scope.namespace,
            name=name,
            version=version,
            hash=made.hash,
            created=made.created,
            value=schema,
            message=message.header.id,
        )
