"""All checkers by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tests.robustness import check_delivery, check_state
from tests.robustness.findings import Checker, Finding
from tests.robustness.records import Record

CHECKERS: Final[Mapping[str, Checker]] = {
    "C1 no loss": check_delivery.no_loss,
    "C2 no phantom": check_delivery.no_phantom,
    "C3 total order": check_delivery.total_order,
    "C4 session order": check_delivery.session_order,
    "C5 monotone sequence": check_delivery.monotone_sequence,
    "C6 context chain": check_state.context_chain,
    "C7 one effect": check_state.one_effect,
    "C8 single writer": check_state.single_writer,
    "C9 liveness": check_state.liveness,
}


def check_all(records: Sequence[Record]) -> list[Finding]:
    """What all checkers find, in their order."""
    return [finding for checker in CHECKERS.values() for finding in checker(records)]
