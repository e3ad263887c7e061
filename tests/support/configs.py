"""The least configuration that a node starts with, for tests that add to it."""

BASE = """\
plugins:
  database:
  - name: database0
    type: sqlite3
    sqlite3: {url: a.db}
namespaces:
  default: default
  predefined:
  - name: default
"""
