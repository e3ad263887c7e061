"""Goal: whatever PostgreSQL's library raises becomes an error of the core, and tells whether the connection lives.

Method: one error of each kind, made by hand.
"""

import asyncpg
import pytest
from photinus_core.store.postgres_errors import LIBRARY_ERRORS, is_broken, is_lost, translate_error

ENDED = "cannot switch to state 11; another operation (2) is in progress"


@pytest.mark.parametrize(
    ("failure", "broken", "lost", "code"),
    [
        (asyncpg.AdminShutdownError("terminating"), True, True, "FF19135"),
        (asyncpg.ReadOnlySQLTransactionError("standby"), True, True, "FF19135"),
        (asyncpg.InterfaceError("connection is closed"), True, True, "FF19135"),
        (asyncpg.InternalClientError(ENDED), True, True, "FF19135"),
        (ConnectionResetError("reset"), True, True, "FF19135"),
        (TimeoutError(), True, False, "FF19135"),
        (asyncpg.IdleInTransactionSessionTimeoutError("slow"), True, True, "FF19138"),
        (asyncpg.QueryCanceledError("slow"), False, False, "FF19138"),
        (asyncpg.DeadlockDetectedError("deadlock"), False, False, "FF19137"),
        (asyncpg.DiskFullError("full"), False, False, "FF19101"),
        (asyncpg.UniqueViolationError("twice"), False, False, "FF19108"),
        (asyncpg.DataError("out of range"), False, False, "FF19112"),
        (asyncpg.ProgramLimitExceededError("too large"), False, False, "FF19112"),
        (asyncpg.UndefinedTableError("no table"), False, False, "FF19107"),
    ],
)
def test_an_error_of_the_library_is_one_of_ours(
    failure: Exception, broken: bool, lost: bool, code: str
) -> None:
    assert isinstance(failure, LIBRARY_ERRORS)
    assert (is_broken(failure), is_lost(failure)) == (broken, lost)
    assert translate_error(failure, "here").code == code


def test_a_clients_query_that_took_too_long_says_how_long_it_may_take() -> None:
    told = translate_error(asyncpg.QueryCanceledError("slow"), "here", 5.0)
    assert told.code == "FF19111"
    assert "5" in str(told)
