"""The checks, one module per group; importing them all fills the catalogue."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from photinus_sanity.catalogue import Check, registered


@cache
def all_checks() -> tuple[Check, ...]:
    """Every check, by group and number."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return tuple(registered())
