# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares a plan with the file that holds what it was."""

import difflib
import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

OPTION = "--libhook-regenerate"
_LONGEST = 100


def place(file: Path, test: str, number: int) -> Path:
    """Where the plan of this call in a test stands: a file for each, beside the test's own."""
    name = re.sub(r"[^\w.-]+", "_", test).strip("_")
    if len(name) > _LONGEST or "[" in test:  # two tests may differ in what a name cannot have
        name = f"{name[:_LONGEST]}.{sha256(test.encode()).hexdigest()[:8]}"
    return file.parent / "plans" / f"{file.stem}.{name}{f'.{number}' if number > 1 else ''}.txt"


def compare(lines: Iterable[str], path: Path, *, regenerate: bool) -> None:
    """AssertionError unless the file has these lines, with what differs. ``regenerate``: from now on it has them."""
    found = list(lines)
    if regenerate:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in found), "utf-8")
    again = f"if it is meant to be so, run pytest with {OPTION}"
    assert path.exists(), f"there is no {path}: to write it, run pytest with {OPTION}"
    known = path.read_text("utf-8").splitlines()
    unlike = difflib.unified_diff(known, found, str(path), "the plan", lineterm="")
    assert found == known, "\n".join((f"the plan is another now; {again}:", *unlike))
