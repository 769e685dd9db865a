# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the table ``values`` may have."""

import json

import pytest
from cases import NIC
from scenario import Host, guest

from libhook.errors import BadInput
from libhook.facts.value import path_of
from libhook.kinds.value import read
from libhook.simulation.hosts import workstation

WIN11 = guest(NIC)
NO_FILES = [
    "", "/", ".", "..", "vm", "/etc/passwd", "/proc/self/mem", "/proc/sys/", "/sys/../etc/passwd", "/sys/./kernel/x",
    "../../etc/passwd", "vm..swappiness", "vm swappiness", "/sys/kernel/x\n", "/sys//kernel/x", "/sys/kernel/x\0y",
]  # fmt: skip


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_such_file_is_refused(root: str, name: str) -> None:
    """From the settings and from the journal alike; nothing is written."""
    with pytest.raises(BadInput):
        path_of(name)
    with pytest.raises(BadInput):
        read({"path": name, "value": "1"})
    if "\0" in name:
        return  # TOML has none
    host = Host(root, workstation(), f"[values]\n{json.dumps(name)} = 1\n")
    outcome = host.event(WIN11, "prepare")
    assert outcome.code == 1
    assert "is wrong: it must be a sysctl, or one file below /sys, by its name and no pattern" in outcome.line
    assert outcome.writes == ()


@pytest.mark.parametrize("value", ["true", "1.5", '""', '"a\\nb"', "[1]", f'"{"x" * 5000}"'])
def test_a_value_is_a_line_of_text_or_a_whole_number(root: str, value: str) -> None:
    """Anything else is an error of the settings."""
    host = Host(root, workstation(), f'[values]\n"vm.swappiness" = {value}\n')
    outcome = host.event(WIN11, "prepare")
    assert outcome.code == 1
    assert 'values."vm.swappiness" is wrong: it must be a line of text or a whole number' in outcome.line
