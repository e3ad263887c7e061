"""Shared storage in memory: one bucket for all members."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from photinus_core.host.fakes.instance import FakeInstance, refusal
from photinus_core.ports.connectors import CallKey, Disposition
from photinus_core.ports.tasks import Background

CHUNK_BYTES: Final = 1 << 20


@dataclass(slots=True)
class FakeBucket:
    """What all members can read: bytes by the hash they have. A test may take some away."""

    objects: dict[str, bytes] = field(default_factory=dict)


class FakeSharedStorage(FakeInstance):
    """One member's connector to a `FakeBucket`."""

    def __init__(self, name: str, work: Background, bucket: FakeBucket) -> None:
        super().__init__(name, work)
        self._bucket = bucket

    async def upload(self, call: CallKey, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        """Stores bytes under their hash."""
        self.check_present()
        data = b"".join([chunk async for chunk in chunks])
        reference = hashlib.sha256(data).hexdigest()
        if self.begin(call, "Upload", reference) is None:
            self._bucket.objects[reference] = data
        return reference, len(data)

    async def download(self, payload_ref: str, max_bytes: int = 0) -> AsyncIterator[bytes]:
        """Reads bytes, checked against their reference."""
        self.check_present()
        data = self._bucket.objects.get(payload_ref)
        if data is None:
            raise refusal("UNKNOWN_PAYLOAD", f"Nobody holds {payload_ref}")
        if hashlib.sha256(data).hexdigest() != payload_ref:
            message = f"{payload_ref} is not what its hash says"
            raise refusal("HASH_MISMATCH", message, Disposition.MAYBE_SENT)
        if max_bytes and len(data) > max_bytes:
            raise refusal("PAYLOAD_TOO_LARGE", f"{len(data)} bytes, {max_bytes} are taken")
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]
