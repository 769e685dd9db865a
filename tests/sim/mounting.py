# SPDX-License-Identifier: LGPL-2.1-or-later
"""A disk that fstab mounts, with another mount below it, and a service that needs it."""

from typing import Any

from libhook.simulation import store, systemd

DATA, SUB, INDEX, TARGET = "srv-data.mount", "srv-data-sub.mount", "index.service", "local-fs.target"
LINE = "40 22 259:1 / /srv/data rw - xfs /dev/nvme0n1 rw"
SUB_LINE = "41 40 0:99 / /srv/data/sub rw - tmpfs tmpfs rw"
MOUNTS = '[domains."*".units]\n"/srv/data" = "down"\n'


def mount(root: str, **data: Any) -> None:  # noqa: ANN401 - as systemd.add
    """Mount them on this host. ``data`` is what is special of the first."""
    systemd.add(root, TARGET)
    systemd.add(root, DATA, **{"mounts": LINE, "disk": "nvme0n1", "required_by": [TARGET, SUB, INDEX], **data})
    systemd.add(root, SUB, mounts=SUB_LINE, required_by=[TARGET])
    systemd.add(root, INDEX)


def mounted(root: str) -> list[str]:
    """What is mounted below /srv."""
    lines = store.read(f"{root}/proc/self/mountinfo").splitlines()
    return sorted(line.split(" ")[4] for line in lines if "/srv" in line)
