# SPDX-License-Identifier: LGPL-2.1-or-later
"""The order of the entries of ``run``: commands as the scripts run them, undos as they undo."""

import re
from pathlib import Path

from test_carried import imported


def entries(text: str) -> list[str]:
    """The names of the entries."""
    return re.findall(r"\[run\.([^\]]+)\]", text)


def test_commands_keep_the_order_of_the_scripts(tmp_path: Path) -> None:
    """Whatever they are: a file, a unit, a module, a value."""
    found = imported(tmp_path, begin="""
mv /etc/udev/a /etc/udev/b
systemctl restart udev
foo
modprobe dummy
echo 1-4 > /sys/bus/usb/drivers/usb/unbind""")  # fmt: skip
    names = entries(found.text)
    assert [name.split("-")[0] for name in names] == ["mv", "systemctl", "foo", "modprobe", "1"], names


def test_what_the_end_does_comes_where_the_scripts_have_it(tmp_path: Path) -> None:
    """Undos run in reverse: what comes last at the end stands first."""
    found = imported(tmp_path, begin="foo add a\nfoo add b", end="""
bar first
foo del b
systemctl restart middle
foo del a
bar last""")  # fmt: skip
    assert list(reversed(entries(found.text))) == ["bar-first", "foo-add-b", "systemctl-restart-middle-service",
                                                  "foo-add-a", "bar-last"]  # fmt: skip
