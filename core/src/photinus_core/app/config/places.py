"""Where in a file something stands that was found wrong after the file was read."""

from __future__ import annotations

from typing import Final

from photinus_core.app.config.tree import Node, Problem, Report, is_number, parse

DIGITS_MAX: Final = 10


class Places:
    """The lines of a configuration that was read without a problem.

    Args:
        text: YAML.
        name: Name of the file, for messages.
    """

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._root = parse(text, Report(name))

    def problem(self, path: str, text: str) -> Problem:
        """Something wrong at a path; the line is that of its innermost part that is there."""
        line, node = 0, self._root
        for key in path.replace("[", ".").replace("]", "").split("."):
            found = _child(node, key)
            if found is None:
                break
            line, node = found.line, found
        return Problem(self._name, line, path, text)

    def of_namespace(self, name: str, key: str) -> str:
        """Path of a key of a namespace."""
        return f"{self._named('namespaces.predefined', name)}.{key}"

    def of_plugin(self, category: str, name: str, kind: str, pointer: str) -> str:
        """Path of a setting of a connector, given as JSON Pointer into its configuration."""
        parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        return ".".join([f"{self._named(f'plugins.{category}', name)}.{kind}", *parts])

    def _named(self, path: str, name: str) -> str:
        """The entry of a list that has a name."""
        node: Node | None = self._root
        for key in path.split("."):
            node = None if node is None else node.get(key)
        entries = [] if node is None else node.items or []
        index = next((i for i, entry in enumerate(entries) if entry.text("name") == name), None)
        return path if index is None else f"{path}[{index}]"


def _child(node: Node, key: str) -> Node | None:
    """What a key, or the number of an item, leads to."""
    if node.items is None:
        return node.get(key)
    number = int(key) if is_number(key) and len(key) < DIGITS_MAX else len(node.items)
    return node.items[number] if number < len(node.items) else None
