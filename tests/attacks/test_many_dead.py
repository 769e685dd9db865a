# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many guests have ended at once, and libhook was not there: all they have left comes back, with no look at pairs."""

from unittest import mock

import pytest
from command import libhook
from scenario import Host

from libhook.effects import files
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic

SWAPPINESS = "/proc/sys/vm/swappiness"


def dead(root: str, count: int) -> Host:
    """So many guests want one value, each by a file of its own, and have not ended by ``release``."""
    host = Host(root, nic())
    host.put(SWAPPINESS, "60")
    for at in range(count):
        one = Guest(f"guest{at}")
        host.put(f"/etc/libhook/config.d/{at}.toml", f'[domains.{one.name}.values]\n"vm.swappiness" = 10\n')
        assert host.event(one, "prepare").code == 0
        held = host.state.load(one.uuid)
        assert held
        host.state.save(held._replace(phase="releasing"))
    assert host.read(SWAPPINESS) == "10"
    return host


@pytest.mark.parametrize("dry", [True, False])
def test_recover_reads_each_file_as_often_however_many_there_are(root: str, dry: bool) -> None:
    """It read all settings for each guest, and for each the entry of every other."""
    reads = list[int]()
    for count in (4, 8, 16):
        host = dead(f"{root}/{count}", count)
        with mock.patch.object(files, "read", wraps=files.read) as read:
            done = libhook(host, "recover", *["--dry-run"] * dry)
        assert (done.code, done.err, host.read(SWAPPINESS)) == (0, "", "10" if dry else "60")
        assert dry or host.leftovers == []
        reads.append(read.call_count)
    assert reads[2] - reads[1] == 2 * (reads[1] - reads[0])
