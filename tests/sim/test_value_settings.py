# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the table ``values`` may have, and what is refused before anything is done: by the plan and by the start."""

import json
import shutil
from pathlib import Path

import pytest
from cases import NIC
from command import libhook
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


@pytest.mark.parametrize(
    "value",
    ["true", "1.5", '""', '"a\\nb"', "[1]", f'"{"x" * 5000}"', f'"{"é" * 2049}"', "9" * 4200, "0x" + "f" * 5000],
    ids=["switch", "fraction", "empty", "two lines", "list", "long", "long in bytes", "number", "no number"],
)
def test_a_value_is_a_line_of_text_or_a_whole_number(root: str, value: str) -> None:
    """Anything else is an error of the settings."""
    host = Host(root, workstation(), f'[values]\n"vm.swappiness" = {value}\n')
    outcome = host.event(WIN11, "prepare")
    assert outcome.code == 1
    assert 'values."vm.swappiness" is wrong: it must be a line of at most 4096 bytes, or a whole number' in outcome.line


def test_a_file_that_is_not_there_refuses_the_plan_too(root: str) -> None:
    """In the words of the start; one that is there does not."""
    host = Host(root, workstation(), '[values]\n"vm.swapiness" = 10\n')
    start = host.event(WIN11, "prepare")
    assert start.line.startswith("there is no file /proc/sys/vm/swapiness: correct values in the settings")
    plan = libhook(host, "plan", "-", stdin=WIN11.xml())
    assert (plan.code, plan.err) == (1, f"{start.line}\n")
    host.put("/proc/sys/vm/swapiness", "60")
    assert libhook(host, "plan", "-", stdin=WIN11.xml()).code == 0


@pytest.mark.parametrize("what", ["link", "open"])
def test_a_state_that_a_start_does_not_trust_refuses_the_plan_too(root: str, what: str) -> None:
    """In the same words."""
    host = Host(root, workstation())
    folder = Path(host.machine.state)
    shutil.rmtree(folder, ignore_errors=True)
    if what == "link":
        folder.symlink_to(root)
    else:
        folder.mkdir()
        folder.chmod(0o777)
    start = host.event(WIN11, "prepare")
    assert start.line.startswith(f"{folder} is not a folder that only root may write to: ")
    plan = libhook(host, "plan", "-", stdin=WIN11.xml())
    assert (plan.code, plan.out, plan.err) == (1, "", f"{start.line}\n")
