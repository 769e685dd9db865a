# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares a plan with the file that holds what it was."""

import difflib
from collections.abc import Iterable
from pathlib import Path

OPTION = "--libhook-regenerate"


def compare(lines: Iterable[str], path: Path, *, regenerate: bool) -> None:
    """AssertionError unless the file has these lines, with what differs. ``regenerate``: from now on it has them."""
    found = list(lines)
    if regenerate:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in found))
    again = f"if it is meant to be so, run pytest with {OPTION}"
    assert path.exists(), f"there is no {path}: to write it, run pytest with {OPTION}"
    known = path.read_text().splitlines()
    unlike = difflib.unified_diff(known, found, str(path), "the plan", lineterm="")
    assert found == known, "\n".join((f"the plan is another now; {again}:", *unlike))
