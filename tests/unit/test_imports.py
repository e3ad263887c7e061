"""Goal: every distribution of the workspace is installed and imports without a warning.

Method: import each one by name; pytest turns warnings into errors.
"""

import importlib

import pytest

DISTRIBUTIONS = (
    "photinus",
    "photinus_core",
    "photinus_journal",
    "photinus_sdk",
    "photinus_ethereum",
    "photinus_ipfs",
    "photinus_dx",
    "photinus_sanity",
    "photinus_client",
)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_imports_and_has_a_docstring(name: str) -> None:
    assert importlib.import_module(name).__doc__
