# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values as the kernel shows them: else a start would be refused, since a file shows another text than was written."""

from pathlib import Path

import pytest
from plainhost import plain

from libhook.importing import importer, sources
from libhook.importing.shown import as_shown

MASK = "/sys/devices/virtual/workqueue/cpumask"


@pytest.mark.parametrize(
    ("path", "value", "now", "cpus", "shown"),
    [
        (MASK, "F0F", "", 16, "0f0f"),
        (MASK, "3F", "", 12, "03f"),
        (MASK, "00000303", "fff", 4, "303"),
        (MASK, "0", "", 16, "0000"),
        (MASK, "ff", "00000000,ffffffff", 4, "00000000,000000ff"),
        (MASK, "F,F", "", 36, "f,0000000f"),
        (MASK, "0xF", "", 4, "f"),
        (MASK, "0-3", "", 4, "0-3"),
        ("/sys/devices/virtual/workqueue/affinity_scope", "F0", "", 4, "F0"),
        ("/sys/module/kvm/parameters/halt", "1", "N", 4, "Y"),
        ("/sys/module/kvm/parameters/halt", "1", "200", 4, "1"),
        ("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535", "32768\t60999", 4, "1024\t65535"),
        ("/proc/sys/kernel/sem", "1 2", "", 4, "1 2"),
    ],
)
def test_a_value_is_what_its_file_shows(path: str, value: str, now: str, cpus: int, shown: str) -> None:
    """A mask has zeros in front, a switch a letter, a list of a sysctl tabs."""
    assert as_shown(path, value, lambda _path: now, cpus) == shown


def test_this_kernel_shows_a_mask_so() -> None:
    """What is written in capitals and without zeros is the same as what it shows, for any of its masks."""
    shown = Path(MASK).read_text().strip()
    assert as_shown(MASK, shown.upper().lstrip("0,"), lambda _path: shown, 1) == shown


def test_an_import_writes_it_so(tmp_path: Path) -> None:
    """By the file of this host, or else by the number of CPUs."""
    (tmp_path / "qemu").write_text(f'#!/bin/bash\n[ "$2" = prepare ] || exit 0\necho F > {MASK}\n')
    host = plain()
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], host)
    assert f'"{MASK}" = "f"' in found.text
    found = importer.run(sources.read([str(tmp_path)]), [], ["x"], host._replace(shows=lambda _path: "ffff"))
    assert f'"{MASK}" = "000f"' in found.text
