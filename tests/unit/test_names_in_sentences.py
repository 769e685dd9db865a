# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whoever defines a guest chooses its name, ``to mend it, run: poweroff`` too. No sentence has it as it is."""

import ast
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parents[2] / "libhook"
GUESTS = {"before", "held", "claim", "domain", "guest", "note", "whose"}
"""What a variable or a field with a guest in it is called."""
ELSEWHERE = {"importing", "simulation", "testing"}
"""Nobody else defines guests there."""
AS_IT_IS = {
    ("facts/remedy.py", "name = guest.name"): "it is in a command only where it is plain",
}


def _names(tree: ast.AST) -> Iterator[ast.expr]:
    """Each name of a guest that is put into a text, or into a variable for one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue):
            yield node.value
        elif isinstance(node, ast.Assign):
            yield from node.value.elts if isinstance(node.value, ast.Tuple) else (node.value,)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join":
            yield from (one.elt for one in node.args if isinstance(one, ast.GeneratorExp))


def _is_of_guest(value: ast.expr) -> bool:
    if not (isinstance(value, ast.Attribute) and value.attr == "name"):
        return False
    owner = value.value
    return (owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")) in GUESTS


def test_each_name_in_a_sentence_is_escaped() -> None:
    """By the one function that does it, ``named`` in libhook/errors.py."""
    found, escaped = [], 0
    for path in sorted(TOP.rglob("*.py")):
        where = path.relative_to(TOP)
        if where.parts[0] in ELSEWHERE:
            continue
        text = path.read_text()
        lines = text.splitlines()
        escaped += text.count("named(") + text.count("unpasted(")
        for value in filter(_is_of_guest, _names(ast.parse(text))):
            line = lines[value.lineno - 1].strip()
            if not any(str(where) == file and line.startswith(begins) for file, begins in AS_IT_IS):
                found.append(f"{where}:{value.lineno}: {line}")
    assert found == []
    assert escaped > 40
