"""What travels beside a request: who asks, under which key, how long there is."""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from photinus.connector.v1 import common_pb2 as common

from photinus_sdk.errors import Rejected

KEY_BYTES_MAX = 256


class StreamKey(NamedTuple):
    """Identity of an event stream; also the scope of idempotency keys and epochs."""

    cluster_id: str
    namespace: str
    consumer: str

    @classmethod
    def of(cls, ref: common.StreamRef) -> "StreamKey":
        """The stream a request names. Raises Rejected when a part is missing."""
        if not ref.cluster_id or not ref.consumer or "\n" in ref.cluster_id + ref.namespace:
            raise Rejected("The stream needs a cluster id and a consumer", reason="INVALID_STREAM")
        return cls(ref.cluster_id, ref.namespace, ref.consumer)

    @classmethod
    def parse(cls, text: str) -> "StreamKey":
        """The stream whose `text` this is."""
        cluster_id, namespace, consumer = text.split("\n")
        return cls(cluster_id, namespace, consumer)

    @property
    def text(self) -> str:
        """One string for it, unique; used as a database key and in logs."""
        return "\n".join(self)

    def to_ref(self) -> common.StreamRef:
        """The wire form."""
        return common.StreamRef(
            cluster_id=self.cluster_id, namespace=self.namespace, consumer=self.consumer
        )


@dataclass(frozen=True, slots=True)
class CallContext:
    """Beside every request an author's method gets.

    Attributes:
        instance: Name of the connector instance the call is for.
        method: RPC name, e.g. `SubmitBatchPin`.
        stream: Scope of key and epoch; None for calls without a MutationContext.
        idempotency_key: Names the effect; empty for calls that have none.
        owner_epoch: Epoch of the asking leader, already checked; 0 for calls of any replica.
        deadline: Loop time at which the caller stops waiting; None when it set no deadline.
        retried: True when this key was begun before and did not come to an answer (the process
            died, the deadline passed). The earlier run may have had its effect: look before acting.
        fingerprint: Digest of a submission's arguments, for a journal that takes the key with the work.
    """

    instance: str
    method: str
    stream: StreamKey | None = None
    idempotency_key: str = ""
    owner_epoch: int = 0
    deadline: float | None = None
    retried: bool = False
    fingerprint: bytes = b""

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the caller stops waiting, at least 0; None without a deadline."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - asyncio.get_running_loop().time())

    @property
    def scope(self) -> StreamKey:
        """The stream of a mutating call. Only such calls have one."""
        assert self.stream is not None
        return self.stream
