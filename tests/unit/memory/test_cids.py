"""Goal: a file has the reference that the ipfs connector, and so Kubo, gives it.

Method: sizes around the ends of chunks and of nodes, against the ipfs connector's own builder.
"""

import pytest
from photinus_ipfs.unixfs import CHUNK_BYTES, LINKS_PER_NODE, DagBuilder
from photinus_memory.cids import reference_of


@pytest.mark.parametrize(
    "size",
    [
        *(0, 1, 127, 128, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES),
        *(LINKS_PER_NODE * CHUNK_BYTES, LINKS_PER_NODE * CHUNK_BYTES + 1),
    ],
)
def test_references_are_those_of_ipfs(size: int) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    builder = DagBuilder()
    builder.add(content)
    assert reference_of(content) == str(builder.finish())


def test_the_empty_file_is_the_well_known_one() -> None:
    assert reference_of(b"") == "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
