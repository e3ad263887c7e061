"""YAML as a tree whose scalars are text and whose nodes know their lines.

A scalar is turned into a number or a truth value only by the reader that wants one, so that
`0x123456` is a key and not a number. Keys are found in any case, as FireFly finds them. Every
problem is collected with its place; nothing stops at the first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from photinus_core.model.errors import Rejected

DEPTH_MAX: Final = 50
"""Deepest nesting of a configuration; also ends YAML aliases that contain themselves."""
NODES_MAX: Final = 100_000
"""Most nodes of a configuration, aliases counted each time they are used."""

Plain = str | None | list["Plain"] | dict[str, "Plain"]
"""A part of the tree without lines: all scalars text; None for an empty or `null` scalar."""

_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([kmgt]?)i?b?")
_DURATION: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ns|us|µs|μs|ms|s|m|h)")
_MILLISECONDS: Final = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,9})?")
_UNITS_S: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TOO_MUCH: Final = "too large or nested too deeply"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a configuration."""

    file: str
    line: int
    """Counted from 1; 0 for what is not in the file (an environment variable)."""
    path: str
    text: str
    """The coded text, `FF10388: …`."""

    def __str__(self) -> str:
        where = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{where}: {self.path}: {self.text}" if self.path else f"{where}: {self.text}"


class ConfigError(Exception):
    """A configuration that cannot be used, with everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(slots=True)
class Report:
    """Collects problems and warnings while a tree is read."""

    file: str
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def add(self, node: Node, failure: Rejected) -> None:
        """Notes an error at a node."""
        self.problems.append(Problem(self.file, node.line, node.path, str(failure)))

    def warn(self, node: Node, text: str) -> None:
        """Notes something an operator should look at."""
        self.warnings.append(Problem(self.file, node.line, node.path, text))


@dataclass(slots=True)
class Node:
    """A place in the tree: a scalar, a list or a section."""

    report: Report
    path: str
    line: int
    scalar: str | None = None
    quoted: bool = False
    items: list[Node] | None = None
    members: dict[str, tuple[str, Node]] | None = None
    """Lower-case key -> (key as written, value)."""
    used: set[str] = field(default_factory=set)

    @property
    def is_null(self) -> bool:
        """Whether there is nothing here."""
        return self.items is None and self.members is None and (self.scalar is None)

    def get(self, key: str) -> Node | None:
        """The value of a key, in any case; None when it is absent or null."""
        if self.members is None:
            return None
        found = self.members.get(key.lower())
        if found is None:
            return None
        self.used.add(key.lower())
        return None if found[1].is_null else found[1]

    def section(self, key: str) -> Node:
        """The section of a key; an empty one when it is absent."""
        found = self.get(key)
        if found is None:
            return Node(self.report, _join(self.path, key), self.line, members={})
        if found.members is None:
            self.report.add(found, Rejected("FF19305", key, "must be a section"))
            return Node(self.report, found.path, found.line, members={})
        return found

    def list(self, key: str) -> list[Node]:
        """The items of a key; none when it is absent."""
        found = self.get(key)
        if found is None:
            return []
        if found.items is None:
            self.report.add(found, Rejected("FF19305", key, "must be a list"))
            return []
        return found.items

    def text(self, key: str, default: str = "") -> str:
        """The text of a key."""
        found = self.get(key)
        if found is None:
            return default
        if found.scalar is None:
            self.report.add(found, Rejected("FF19305", key, "must be one value"))
            return default
        return found.scalar

    def boolean(self, key: str, *, default: bool) -> bool:
        """The truth value of a key."""
        text = self.text(key).lower()
        if text in ("true", "yes", "on"):
            return True
        if text in ("false", "no", "off"):
            return False
        if text:
            self._bad(key, f"'{text}' is neither true nor false")
        return default

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """The whole number of a key, between two bounds (inclusive)."""
        text = self.text(key)
        if not text:
            return default
        try:
            value = int(text.replace("_", ""))
        except ValueError:
            self._bad(key, f"'{text}' is not a whole number")
            return default
        if not low <= value <= high:
            self._bad(key, f"{value} is not between {low} and {high}")
            return default
        return value

    def duration_s(self, key: str, default: float) -> float:
        """The duration of a key in seconds.

        Go's form (`1m30s`), or a bare number of milliseconds.
        """
        text = self.text(key).strip().lower()
        if not text:
            return default
        if _MILLISECONDS.fullmatch(text):
            return float(text) / 1000
        parts = _DURATION.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            self._bad(key, f"'{text}' is not a duration such as 30s or 500ms")
            return default
        return round(sum(float(number) * _UNITS_S[unit] for number, unit in parts), 9)

    def size_bytes(self, key: str, default: int) -> int:
        """The size of a key in bytes; `800Kb` is 800 x 1024, as FireFly counts."""
        text = self.text(key).strip().lower()
        if not text:
            return default
        found = _SIZE.fullmatch(text)
        if found is None:
            self._bad(key, f"'{text}' is not a size such as 800Kb")
            return default
        return int(float(found[1]) * 1024 ** ("kmgt".index(found[2]) + 1 if found[2] else 0))

    def check_unknown(self) -> None:
        """Notes every key that nobody asked for."""
        for lower, (written, value) in (self.members or {}).items():
            if lower not in self.used:
                self.report.add(value, Rejected("FF19304", _join(self.path, written)))

    def without_effect(self, keys: Sequence[str], text: str) -> None:
        """Warns of keys that are taken and do nothing here; the text says why."""
        for key in keys:
            found = self.get(key)
            if found is not None:
                found.plain()
                self.report.warn(found, text)

    def plain(self) -> Plain:
        """The part of the tree at this place, without lines."""
        if self.members is not None:
            self.used.update(self.members)
            return {written: value.plain() for written, value in self.members.values()}
        if self.items is not None:
            return [item.plain() for item in self.items]
        return self.scalar

    def json(self) -> str:
        """The same as compact JSON text; scalars are strings."""
        return json.dumps(self.plain(), ensure_ascii=False, separators=(",", ":"))

    def _bad(self, key: str, text: str) -> None:
        found = self.get(key)
        self.report.add(found if found is not None else self, Rejected("FF19305", key, text))


def is_number(text: str) -> bool:
    """Whether a text is a whole number in plain digits."""
    return text.isascii() and text.isdigit()


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def parse(text: str, report: Report) -> Node:
    """Reads YAML text.

    Raises:
        ConfigError: it is no YAML, or not a section.
    """
    try:
        root = yaml.compose(text, Loader=_BoundedLoader)
    except yaml.MarkedYAMLError as failure:
        line = failure.problem_mark.line + 1 if failure.problem_mark else 0
        broken = Rejected("FF19301", report.file, failure.problem or str(failure))
        raise ConfigError([Problem(report.file, line, "", str(broken))]) from failure
    except yaml.YAMLError as failure:
        broken = Rejected("FF19301", report.file, str(failure))
        raise ConfigError([Problem(report.file, 0, "", str(broken))]) from failure
    if root is None:
        return Node(report, "", 1, members={})
    node = _Reader(report).read(root, "", 0)
    if node.members is None:
        raise ConfigError(
            [Problem(report.file, 1, "", str(Rejected("FF19301", report.file, "not a section")))]
        )
    return node


class _BoundedLoader(yaml.SafeLoader):
    """Ends at a nesting nothing sensible has, before the composer's recursion does."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self._depth > DEPTH_MAX:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # as its stub has it
            raise yaml.MarkedYAMLError(problem=_TOO_MUCH, problem_mark=mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Reader:
    """Turns YAML nodes into ours, within limits."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._nodes = 0

    def read(self, node: yaml.Node, path: str, depth: int) -> Node:
        """Reads one node with everything below it."""
        self._nodes += 1
        line = node.start_mark.line + 1
        if depth > DEPTH_MAX or self._nodes > NODES_MAX:
            limit = Rejected("FF19301", self._report.file, _TOO_MUCH)
            raise ConfigError([Problem(self._report.file, line, path, str(limit))])
        made = Node(self._report, path, line)
        if isinstance(node, yaml.ScalarNode):
            made.quoted = node.style is not None
            made.scalar = None if not made.quoted and node.value in _NULLS else node.value
        elif isinstance(node, yaml.SequenceNode):
            made.items = [self.read(n, f"{path}[{i}]", depth + 1) for i, n in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            made.members = {}
            for key, value in node.value:
                self._member(made, key, value, depth)
        return made

    def _member(self, made: Node, key: yaml.Node, value: yaml.Node, depth: int) -> None:
        if not isinstance(key, yaml.ScalarNode):
            self._report.add(made, Rejected("FF19305", made.path, "keys must be plain text"))
            return
        child = self.read(value, _join(made.path, key.value), depth + 1)
        assert made.members is not None
        if key.value.lower() in made.members:
            self._report.add(child, Rejected("FF19305", child.path, "is given twice"))
        made.members[key.value.lower()] = (key.value, child)


def override(root: Node, environment: Mapping[str, str], prefix: str) -> None:
    """Puts environment variables over the tree.

    `FIREFLY_NAMESPACES_DEFAULT`, `FIREFLY_PLUGINS_BLOCKCHAIN_0_NAME`.
    """
    for name in sorted(environment):
        if name.startswith(prefix) and len(name) > len(prefix):
            _set(root, name[len(prefix) :].lower().split("_"), environment[name], name)


def _set(root: Node, path: list[str], value: str, name: str) -> None:
    node = root
    for position, key in enumerate(path):
        last = position == len(path) - 1
        if is_number(key) and node.is_null:
            node.items = []  # the first entry of a list that the file does not have
        if node.items is not None:
            if not is_number(key) or int(key) > len(node.items):
                root.report.problems.append(Problem(name, 0, "", str(Rejected("FF19304", name))))
                return
            if int(key) == len(node.items):
                node.items.append(Node(root.report, f"{node.path}[{key}]", 0))
            child = node.items[int(key)]
        else:
            if node.members is None:
                node.members, node.scalar = {}, None
            written, child = node.members.get(
                key, (key, Node(root.report, _join(node.path, key), 0))
            )
            node.members[key] = (written, child)
        if last:
            child.scalar, child.items, child.members, child.line = value, None, None, 0
        node = child
