"""One source at a time is parsed: Schemathesis loads this before it begins.

Hypothesis parses the source of each lambda it names, in every worker's thread. CPython 3.11, Debian 12's, keeps the depth
of the tree it builds in one place for all threads, so that two at once can end in "SystemError: AST constructor recursion
depth mismatch" (python/cpython#106905), and the run with it.
"""

import ast
import threading

_one_at_a_time = threading.RLock()
_parse = ast.parse


def parse(*args, **kwargs):
    """`ast.parse`, one thread at a time."""
    with _one_at_a_time:
        return _parse(*args, **kwargs)


ast.parse = parse
