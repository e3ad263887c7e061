"""Writes docs/configuration.md from the table of the core: `python -m scripts.configuration_reference`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from photinus_core.app.config.known import GROUPS, Effect, Group

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"

_HEAD: Final = """\
# Configuration, key by key

What becomes of each key of FireFly's configuration reference. This page is made from the table that the core reads by
(`python -m scripts.configuration_reference`); a test gives every key and fails for one that is silently ignored. What
Photinus adds is in [operations](operations.md), [webhooks](webhooks.md) and [high availability](high-availability.md).

- Keys are found in any case. Each can be set in the environment: `FIREFLY_` and the path in capitals, `_` for each
  dot and the number of an entry for a list: `FIREFLY_NAMESPACES_PREDEFINED_0_DEFAULTKEY`.
- Durations are Go's (`1m30s`, `1.5h`, `250ms`), or a number of milliseconds; sizes are FireFly's (`800Kb`: 800 × 1024).
- *as FireFly's*: means what it means there. *the gateway's*: an option of `photinus-gateway` (`--help`). *the
  connector's*: handed to the connector, whose schema it must fit. *no effect*: taken, and named in a warning by
  `photinus config check` and at the start. *refused*: an error. A key that is not here is refused (FF19304).
"""

_PARTS: Final = (
    ("Server, API, runtime", "http"),
    ("Engine", "batch.manager"),
    ("Plugins", "plugins.<category>[]"),
    ("Namespaces", "namespaces"),
)


def page() -> str:
    """The page."""
    starts = {section: title for title, section in _PARTS}
    lines = [_HEAD.rstrip("\n")]
    for group in GROUPS:
        title = starts.pop(group.section, None)
        if title is not None:
            lines += ["", f"## {title}", "", "| Keys (FireFly's default) | Here |", "|---|---|"]
        lines.append(f"| {_keys(group)} | {_fate(group)} |")
    return "\n".join(lines) + "\n"


def _keys(group: Group) -> str:
    named = [
        f"`{key}`" + (f" ({default})" if default else "") for key, default in group.keys.items()
    ]
    return f"**{group.section}**: {', '.join(named)}".replace("|", "\\|")


def _fate(group: Group) -> str:
    if group.effect in (Effect.NONE, Effect.GATEWAY):
        why = group.why.removeprefix("has no effect").lstrip(": ")
        why = "" if group.effect is Effect.GATEWAY else why
    else:
        why = group.why
    return f"{group.effect.value}; {why}" if why else group.effect.value


if __name__ == "__main__":
    PAGE.write_text(page())
