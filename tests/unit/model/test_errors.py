"""Errors carry what their code says; the catalogue is sound; every use in the core fits it.

Method: direct calls, and a walk over the core's syntax trees that finds each `SomeError("FF…", …)`.
"""

import ast
import pickle
from pathlib import Path

import photinus_core
import pytest
from photinus_core.model import errors
from photinus_core.model.catalogue import CATALOGUE, build
from photinus_core.model.errors import (
    TEXT_CHARS_MAX,
    Conflict,
    GrpcCode,
    InternalBug,
    NotFound,
    PhotinusError,
    Rejected,
    Retry,
    TimedOut,
    Unavailable,
)

CLASSES = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, PhotinusError)
}


def test_an_error_prints_as_clients_match_it() -> None:
    error = Conflict("FF10430", "key-a", "7757b209-f982-4732-a674-3f54dc2c3896")
    assert str(error) == (
        "FF10430: Idempotency key 'key-a' already used for message '7757b209-f982-4732-a674-3f54dc2c3896'"
    )
    assert (error.code, error.http_status, error.grpc_code) == (
        "FF10430",
        409,
        GrpcCode.ALREADY_EXISTS,
    )
    assert error.retry is Retry.NEVER


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            Rejected("FF00191", 1000),
            "FF00191: You have reached the maximum pagination limit for this query (1,000)",
        ),
        (
            Rejected("FF10327", 831.0801, 800),
            "FF10327: Message size 831.08kb is too large for the max broadcast batch size of 800.00kb",
        ),
        (
            TimedOut("FF10260", "r1", 5999.271),
            "FF10260: The request with id 'r1' timed out after 5,999.27ms",
        ),
        (
            Rejected("FF10206", NotFound("FF10277", "did:firefly:org/absent")),
            "FF10206: Invalid author specified: "
            + str(NotFound("FF10277", "did:firefly:org/absent")),
        ),
        (NotFound("FF10109"), "FF10109: Not found"),
    ],
)
def test_texts_are_those_firefly_prints(error: PhotinusError, text: str) -> None:
    assert str(error) == text


def test_class_decides_grpc_code_and_retry() -> None:
    assert Unavailable("FF19100").retry is Retry.LATER
    assert TimedOut("FF00166").retry is Retry.UNKNOWN
    assert InternalBug("FF19000", "x").grpc_code is GrpcCode.INTERNAL


def test_arguments_that_do_not_fit_are_shown_not_raised_about() -> None:
    assert "missing" not in str(Rejected("FF00140"))
    assert str(NotFound("FF10109", "extra")) == "FF10109: Not found: extra"
    assert str(Rejected("FF00191", "many")).endswith("many")


def test_an_unknown_code_still_makes_an_error() -> None:
    error = Rejected("FF00000")
    assert error.http_status == 500
    assert error.code == "FF00000"


def test_texts_are_cut() -> None:
    assert len(Rejected("FF00140", "x" * 10_000).text) == TEXT_CHARS_MAX


def test_errors_survive_pickling() -> None:
    copy = pickle.loads(pickle.dumps(Conflict("FF10431", "k", "t")))
    assert isinstance(copy, Conflict)
    assert str(copy) == str(Conflict("FF10431", "k", "t"))


def test_a_code_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="FF00001 is in the catalogue twice"):
        build([[("FF00001", 400, "a")], [("FF00001", 500, "b")]])


def test_the_catalogue_is_sound() -> None:
    for code, entry in CATALOGUE.items():
        assert len(code) == 7
        assert code[:4] in {"FF00", "FF10", "FF19"}, code
        assert 400 <= entry.http_status <= 504, code
        assert entry.text, code


def _uses() -> list[tuple[str, int, str, str, list[ast.expr]]]:
    root = Path(photinus_core.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in CLASSES
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
            ):
                code, *rest = node.args
                assert isinstance(code, ast.Constant)
                place = str(path.relative_to(root))
                found.append((place, node.lineno, node.func.id, str(code.value), rest))
    return found


def test_every_use_names_a_code_and_gives_its_arguments() -> None:
    uses = _uses()
    assert len(uses) > 20
    wrong = []
    for path, line, _, code, args in uses:
        if any(isinstance(arg, ast.Starred) for arg in args):
            continue
        entry = CATALOGUE.get(code)
        if entry is None or len(args) != entry.arguments:
            wants = "no such code" if entry is None else f"takes {entry.arguments} arguments"
            wrong.append(f"{path}:{line} {code}: {wants}")
    assert wrong == []
