"""Goal: the errors that the gateway makes itself are those of the catalogue.

Method: its table (gateway/internal/coded/coded.go) is read and compared with the core's: same status, same text but for
the notation of arguments.
"""

from __future__ import annotations

import re

from photinus_core.model.catalogue import CATALOGUE

from tests.support.golden import REPOSITORY

SOURCE = REPOSITORY / "gateway" / "internal" / "coded" / "coded.go"


def plain(text: str) -> str:
    """A text with all arguments alike: `{:,}`, `{}`, `%d` and `%s` become `*`."""
    return re.sub(r"\{[^}]*\}|%\.?\d*[sdf]", "*", text)


def test_gateway_errors_are_in_the_catalogue() -> None:
    source = SOURCE.read_text() + (SOURCE.parents[1] / "fireflyjson" / "decode.go").read_text()
    codes = dict(re.findall(r'^\s*(\w+)\s*= "(FF\d{5})"$', source, re.MULTILINE))
    codes |= {
        name: codes[f"Code{other}"]
        for name, other in re.findall(r"(\w+)\s*= fireflyjson\.Code(\w+)", source)
    }
    entries = re.findall(r'^\s*(\w+):\s*\{(\d+), "(.*)"\},$', source, re.MULTILINE)
    assert len(entries) > 10
    for name, status, text in entries:
        entry = CATALOGUE[codes[name]]
        assert int(status) == entry.http_status, name
        # Only the gateway knows the request's id, which FireFly prints with this one.
        assert plain(text) == plain(entry.text) or name == "TimedOut", name
