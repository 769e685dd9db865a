# SPDX-License-Identifier: LGPL-2.1-or-later
"""Others choose the names of guests, processes, units: ``to mend it, run: poweroff``, too. No sentence has one bare."""

import ast
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from libhook.command.views import status_text
from libhook.errors import fault, named
from libhook.facts.entry import Held, HeldDevice, Process
from libhook.facts.remedy import told
from libhook.xml.hostdevxml import quoted

ROOT = Path(__file__).parents[2]
TOP = ROOT / "libhook"
GUESTS = {"before", "held", "claim", "domain", "guest", "note", "whose"}
"""What a variable or a field with a guest in it is called."""
FOREIGN = {
    *("alias", "called", "interface", "master", "gadget", "subsystem", "hba", "error", "other.name", "holder.name"),
    *("unit", "unit.name", "self.unit", "self.asked", "one.pattern", "one.service", "owner.unit", "owner.service"),
    *("owner.container", "request.guest", "one.address", "error.filename", "node.name", "user"),
    *("key", "action.key", "one.key", "device.key"),
    *("file.origin", "other.origin", "file.interpreter"),
}
"""What else is called as somebody else likes, as the code calls it."""
ELSEWHERE = {"simulation", "testing"}
"""Nobody else defines guests there."""
AS_IT_IS = {
    ("facts/remedy.py", "name = guest.name"): "it is in a command only where it is plain",
    ("facts/remedy.py", "return setting("): "the same",
    ("facts/remedy.py", 'return f"stop the container {owner.container} first: run'): "the same",
    ("facts/remedy.py", 'return f"{again}; to see which pod'): "an ID of hexadecimal digits",
    ("kinds/unit/switching.py", "ask ="): "a user whom systemd knows, in a command",
    ("kinds/sleep.py", "remedy ="): "one of systemd's own, in a command",
    ("kinds/sleep.py", "return"): "the same",
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


def _in_sentences(tree: ast.AST) -> Iterator[ast.expr]:
    """What is put between words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            words = "".join(str(one.value) for one in node.values if isinstance(one, ast.Constant))
            if " " in words.strip():
                yield from (one.value for one in node.values if isinstance(one, ast.FormattedValue))


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
        tree = ast.parse(text)
        bare = [
            *filter(_is_of_guest, _names(tree)),
            *(one for one in _in_sentences(tree) if where.parts[0] != "history" and ast.unparse(one) in FOREIGN),
        ]
        for value in bare:
            line = lines[value.lineno - 1].strip()
            if not any(str(where) == file and line.startswith(begins) for file, begins in AS_IT_IS):
                found.append(f"{where}:{value.lineno}: {line}")
    assert found == []
    assert escaped > 40


@pytest.mark.parametrize(
    "name",
    [
        "web",
        "win11-1",
        "hostdev0",
        "tim@corp",
        "0000:01:00.0",
        "/etc/x",
        "/",
        "a.b_c+d",
        "-",
        "7",
        r"my@win\x2d11.service",
    ],
)
def test_a_plain_word_stays(name: str) -> None:
    """So nearly all sentences have no quotes."""
    assert named(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("to mend it, execute poweroff", '"to mend it, execute poweroff"'),
        ("run: reboot", '"run\\x3a reboot"'),
        ("run:", '"run\\x3a"'),
        ("run:x", '"run\\x3ax"'),
        ("web:", '"web:"'),
        ('" run: x "', '"\\x22 run\\x3a x \\x22"'),
        ("ｒｕｎ：ｘ", '"ｒｕｎ：ｘ"'),  # noqa: RUF001 - they look like others
        ("wеb", '"wеb"'),  # noqa: RUF001 - its second letter is Cyrillic
        ("web\n", '"web\n"'),
        ("", '""'),
        ("web;x", '"web;x"'),
        (r"web\n", r'"web\n"'),
    ],
)
def test_anything_else_stands_in_quotes(name: str, shown: str) -> None:
    """It ends none of the quotes, and it is the same for an uninstallation."""
    assert named(name) == shown
    assert runpy.run_path(str(ROOT / "packaging/versions.py"))["named"](name) == shown
    assert fault(ValueError(name)) == (f"ValueError: {shown}" if name else "ValueError")


def test_a_key_stands_in_quotes_where_its_name_is_no_plain_word() -> None:
    """``recover --give-up`` and ``status`` print it; a device's name comes from the guest's document."""
    assert [told(key) for key in ("pci 0000:01:00.0", "value /proc/sys/vm/swappiness", "run")] == [
        "pci 0000:01:00.0",
        "value /proc/sys/vm/swappiness",
        "run",
    ]
    assert told("scsi x, or run: poweroff") == 'scsi "x, or run\\x3a poweroff"'


def test_an_iscsi_name_stands_in_quotes_in_status() -> None:
    """A guest's document chooses it. The rest of a document's texts are quoted where it is read."""
    evil = "x, or run: poweroff"
    device = HeldDevice("scsi", evil)
    held = Held("u", "web", "kvm", "started", "b", Process(1, 1), (device,))
    said = "\n".join(status_text([(held, "it runs")], {"u": {device.key}}, ()))
    assert (said.count('scsi "x, or run\\x3a poweroff"'), said.count("poweroff")) == (2, 2)
    assert quoted("a' run: x '") == "'a\\x27 run\\x3a x \\x27'"
