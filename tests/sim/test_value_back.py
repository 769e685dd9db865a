# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a file below /sys or /proc/sys had comes back exactly, or the start is refused before it is changed."""

import errno
import os
from pathlib import Path

import pytest
from cases import NIC
from command import libhook
from scenario import Host, guest

from libhook.simulation import faults, knobs
from libhook.simulation.hosts import workstation

ONE = guest(NIC)
PORTS = "/proc/sys/net/ipv4/ip_local_reserved_ports"
ALIAS = "/sys/devices/virtual/net/lo/ifalias"
FIRMWARE = "/sys/module/firmware_class/parameters/path"
SWAPPINESS = "/proc/sys/vm/swappiness"
WAYS_OUT = "take it out of values in the settings; a command under run may set it, if it has an undo"


def _host(root: str, values: str, **files: str) -> Host:
    host = Host(root, workstation(), values)
    for path, text in files.items():
        _put(host, path, text)
    return host


def _put(host: Host, path: str, text: str) -> None:
    Path(f"{host.root}{path}").parent.mkdir(parents=True, exist_ok=True)
    Path(f"{host.root}{path}").write_text(text)


def _shows(host: Host, path: str) -> str:
    return Path(f"{host.root}{path}").read_text()


def _lives(host: Host, path: str, value: str) -> None:
    """A guest starts and has the value, ends and leaves what was there before; and starts again."""
    before = _shows(host, path)
    for _ in range(2):
        host.begin(ONE)
        assert _shows(host, path) == f"{value}\n"
        host.event(ONE, "release", "shutdown")
        assert (_shows(host, path), host.leftovers) == (before, [])


@pytest.mark.parametrize(("path", "before"), [(PORTS, "\n"), (ALIAS, ""), (FIRMWARE, "\n")])
def test_a_file_that_was_empty_is_empty_again(root: str, path: str, before: str) -> None:
    """By a line feed or a NUL: a write of no bytes reaches nobody."""
    _lives(_host(root, f'[values]\n"{path}" = "1000"\n', **{path: before}), path, "1000")


@pytest.mark.parametrize("path", [ALIAS, "/proc/sys/kernel/core_pattern"])
def test_brackets_in_a_text_are_no_choice(root: str, path: str) -> None:
    """Of ``always [madvise] never`` one word is written back, of an interface's alias all."""
    _lives(_host(root, f'[values]\n"{path}" = "1000"\n', **{path: "|/bin/uplink [eth0]\n"}), path, "1000")


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        (PORTS, "1," * 2100 + "\n", "it shows more than 4096 bytes"),
        (ALIAS, "x" * 4097 + "\n", "it shows more than 4096 bytes"),
        (FIRMWARE, "\n\n", "it does not show one line of text"),
        (ALIAS, "a\0b\n", "it does not show one line of text"),
        (FIRMWARE, "(null)\n", "it does not show one line of text"),
    ],
    ids=["sysctl", "attribute", "line feed", "NUL", "null"],
)
def test_what_cannot_be_read_or_written_whole_is_refused(root: str, path: str, text: str, why: str) -> None:
    """Nothing is changed, and nothing is left to undo."""
    host = _host(root, f'[values]\n"{path}" = "1000"\n', **{path: text})
    outcome = host.event(ONE, "prepare")
    said = f"{path} could not be given back: {why}: {WAYS_OUT}"
    assert (outcome.code, outcome.line, outcome.writes) == (1, said, ())
    host.event(ONE, "release", "failed")
    assert (_shows(host, path) == text, host.leftovers) == (True, [])


def test_what_a_file_does_not_take_back_is_refused_before_it_is_changed(root: str) -> None:
    """It is given what it has; only then it is changed."""
    host = _host(root, '[values]\n"vm.swappiness" = 10\n', **{SWAPPINESS: "60\n"})
    faults.inject(root, faults.Fault(f"set {SWAPPINESS} 60", error="EINVAL"))
    outcome = host.event(ONE, "prepare")
    why = "could not be given back: it does not take the value that it has now (Invalid argument)"
    assert (outcome.code, outcome.line) == (1, f"{SWAPPINESS} {why}: {WAYS_OUT}")
    assert outcome.writes == ((SWAPPINESS, "60"),)
    host.event(ONE, "release", "failed")
    assert (_shows(host, SWAPPINESS), host.leftovers) == ("60\n", [])


@pytest.mark.parametrize(
    ("error", "said"),
    [("EAGAIN", "raise libvirtd's limits"), ("ENOSPC", "make room there, then start the guest again")],
)
def test_what_could_not_be_tried_is_not_said_to_be_the_files_fault(root: str, error: str, said: str) -> None:
    """The host has no room for one more process or file. That passes, and the settings are right."""
    host = _host(root, '[values]\n"vm.swappiness" = 10\n', **{SWAPPINESS: "60\n"})
    faults.inject(root, faults.Fault(f"set {SWAPPINESS} 60", error=error))
    outcome = host.event(ONE, "prepare")
    assert (outcome.code, said in outcome.line, WAYS_OUT in outcome.line) == (1, True, False)
    faults.heal(root)
    host.event(ONE, "release", "failed")
    assert (_shows(host, SWAPPINESS), host.leftovers) == ("60\n", [])


@pytest.mark.parametrize(
    ("name", "value"),
    [("vm.drop_caches", "3"), ("/sys/bus/pci/rescan", "1"), ("/sys/bus/pci/drivers/nvme/unbind", NIC),
     ("/sys/power/state", "mem"), (f"/sys/bus/pci/devices/{NIC}/driver_override", "x"),
     ("/sys/fs/cgroup/machine.slice/cgroup.procs", "1"), ("/sys/bus/pci/slots/3/power", "0")],
)  # fmt: skip
def test_what_is_an_act_is_refused(root: str, name: str, value: str) -> None:
    """Before anything is done. The plan says it, and so does what reads the settings, with file, line and key."""
    host = _host(root, f'[values]\n"{name}" = "{value}"\n')
    outcome = host.event(ONE, "prepare")
    why = "it must be left out, as a write to it does something, and keeps no value"
    line = f'/etc/libhook/config.toml: values."{name}" is wrong: {why}'
    assert (outcome.code, outcome.writes, outcome.line) == (1, (), line)
    assert libhook(host, "plan", "-", stdin=ONE.xml(1, False)).err == f"{line}\n"
    assert f"{line}\n" in libhook(host, "config").err
    assert line in libhook(host, "doctor").out


def test_files_that_limit_each_other_are_set_in_the_settings_order(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And go back in the opposite one."""
    low, high = "/proc/sys/net/ipv4/ipfrag_low_thresh", "/proc/sys/net/ipv4/ipfrag_high_thresh"
    host, real = _host(root, f'[values]\n"{low}" = 10\n"{high}" = 20\n', **{low: "30\n", high: "40\n"}), knobs.write

    def limited(root: str, path: str, value: str) -> None:
        now = {one: int(Path(f"{root}{one}").read_text()) for one in (low, high)} | {path: int(value)}
        if now[low] > now[high]:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(root, path, value)

    monkeypatch.setattr(knobs, "write", limited)
    host.begin(ONE)
    assert (_shows(host, low), _shows(host, high)) == ("10\n", "20\n")
    host.event(ONE, "release", "shutdown")
    assert (_shows(host, low), _shows(host, high), host.leftovers) == ("30\n", "40\n", [])
