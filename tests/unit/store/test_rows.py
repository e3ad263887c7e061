"""Spellings in columns are reversible, whatever strangers send; migrations are sound.

Method: Hypothesis round trips; tables of schema states.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus_core.model.errors import Unavailable
from photinus_core.model.ids import Hash32, new_uuid
from photinus_core.model.messages import DataRef
from photinus_core.store.rows import (
    join_refs,
    join_texts,
    read_position,
    split_refs,
    split_texts,
    write_position,
)
from photinus_core.store.schema import Migration, load_migrations, pending_migrations
from photinus_core.store.sqlite_files import translate

POSITIONS = st.tuples(
    st.integers(0, 10**6 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**32),
    st.integers(0, 2**32),
    st.integers(0, 2**32),
)


@given(st.lists(st.text(st.sampled_from("ab,\\-é")), max_size=5))
def test_lists_of_texts(texts: list[str]) -> None:
    assert split_texts(join_texts(texts)) == tuple(texts)


def test_good_topics_are_plainly_joined() -> None:
    assert join_texts(["a", "b-c"]) == "a,b-c"
    assert join_texts([]) == ""


@given(st.integers(0, 4))
def test_references(count: int) -> None:
    refs = tuple(DataRef(new_uuid(), Hash32(f"{i:064x}")) for i in range(count))
    assert split_refs(join_refs(refs)) == refs


@given(POSITIONS, POSITIONS)
def test_written_positions_compare_as_positions_do(
    one: tuple[int, int, int, int, int], two: tuple[int, int, int, int, int]
) -> None:
    assert read_position(write_position(one)) == one
    assert (write_position(one) < write_position(two)) == (one < two)
    assert read_position(write_position(None)) is None


def test_packaged_migrations_are_found_in_order() -> None:
    found = load_migrations()
    assert [m.version for m in found] == list(range(1, len(found) + 1))
    statements = found[0].statements({"$SEQUENCE$": "S", "$BYTES$": "B", "$CLUSTERED$": "C"})
    assert all("$" not in s and not s.startswith("--") for s in statements)
    assert len(statements) > 30


def test_what_a_database_still_needs() -> None:
    known = [Migration(n, f"m{n}", "", f"c{n}", n) for n in (1, 2, 3)]
    assert pending_migrations([], known) == known
    assert pending_migrations([(1, "c1", 1), (2, "c2", None)], known) == known[2:]
    assert pending_migrations([(1, "c1", 1), (2, "c2", 2), (3, "c3", 3)], known) == []
    with pytest.raises(Unavailable, match="FF19105: Migration 2"):
        pending_migrations([(1, "c1", 1), (2, "x", 2)], known)
    with pytest.raises(Unavailable, match="FF19104: The database has schema version 4"):
        pending_migrations([(4, "c4", None)], known)


def test_a_program_runs_on_the_next_releases_schema_if_that_allows_it() -> None:
    known = [Migration(n, f"m{n}", "", f"c{n}", n) for n in (1, 2)]
    applied = [(1, "c1", 1), (2, "c2", 2)]
    assert pending_migrations([*applied, (3, "c3", 2)], known) == []
    assert pending_migrations([*applied, (3, "c3", 1), (4, "c4", 2)], known) == []
    with pytest.raises(Unavailable, match="FF19104: The database has schema version 4"):
        pending_migrations([*applied, (3, "c3", 2), (4, "c4", 3)], known)


def test_statements_are_translated_for_sqlite() -> None:
    shared = "SELECT a FROM t WHERE namespace = $1 AND id = ANY($2) AND b > $10"
    assert translate(shared) == (
        "SELECT a FROM t WHERE namespace = ?1 AND id IN (SELECT value FROM json_each(?2)) AND b > ?10"
    )
