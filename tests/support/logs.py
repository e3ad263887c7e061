"""The root logger of a test that has logging set up as a program does, within the test's process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bare_root_logger() -> Iterator[logging.Logger]:
    """The root logger without handlers; what is done to it inside is undone at the end.

    A handler that stayed would write all that later tests log into a stream that is closed by then.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    try:
        yield root
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers = handlers
        root.setLevel(level)
