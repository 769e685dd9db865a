# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs one event, and prints what Python imports for it: ``python3 -I -S imports.py TOP NAME OPERATION SUB EXTRA``.

Printed, in order, is what the hook would import on a real host: what the simulation brings along is followed no
further, and what both need is the hook's. So it is written down who imports what, whether that is there already or
not. Only what this process imports counts, not what its children do.
"""

import builtins
import os
import sys

SIMULATION = "libhook.simulation"
importing = builtins.__import__
wanted: dict[str, set[str]] = {}


def noting(name, globals=None, locals=None, fromlist=(), level=0):  # type: ignore[no-untyped-def] # noqa: A002, ANN001, ANN201
    """As __import__."""
    module = importing(name, globals, locals, fromlist, level)
    of = wanted.setdefault((globals or {}).get("__name__", "?"), set())
    package = (globals or {}).get("__package__", "") if level else ""
    full = f"{package}.{name}".strip(".") if level == 1 else name
    parts = full.split(".")
    of.update(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    of.update(f"{full}.{one}" for one in fromlist or ())
    return module


def needed(by: str) -> set[str]:
    """All that this module needs, and what they need."""
    found, pending = set[str](), [by]
    while pending:
        for name in wanted.get(pending.pop(), ()):
            if name in sys.modules and name not in found and not name.startswith(SIMULATION):
                found.add(name)
                pending.append(name)
    return found


def main() -> None:
    """Play it."""
    sys.path.insert(0, sys.argv[1])
    builtins.__import__ = noting
    from libhook import cli
    from libhook.children import version

    version.hold()
    cli.add_packages()
    code = cli._hook(os.getppid(), sys.argv[2:], 1)
    found = needed("__main__")
    print("\n".join(name for name in sys.modules if name in found), flush=True)
    os._exit(code)


if __name__ == "__main__":
    main()
