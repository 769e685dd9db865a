# SPDX-License-Identifier: LGPL-2.1-or-later
"""The numbers of an entry's records: those that show who had what lie between the first and the last."""

import pytest
from trail_writing import Trail, read


def _start() -> Trail:
    """A start, by libvirtd and by us: records 11 to 14."""
    return Trail().device("libvirtd", "start").control("start").device("libhook", "start")


@pytest.mark.parametrize(
    ("log", "numbers"),
    [
        (_start(), (11, 14)),
        (_start().device("libhook", "stop"), (11, 15)),
        (_start().control("stop").raw("USER_LOGIN", "x"), (11, 15)),
        (_start().control("stop").device("libhook", "stop"), (11, 16)),
        (Trail().device("libhook", "start", False).device("libvirtd", "start"), (11, 12)),
        (Trail().device("libvirtd", "start").control("start", False), (11, 13)),
        (Trail().device("libvirtd", "attach").device("libhook", "attach").device("libhook", "detach"), (11, 13)),
        (Trail().raw("USER_LOGIN", "x").device("libhook", "stop"), (12, 12)),
        (_start().raw("SYSTEM_BOOT", "x"), (11, 14)),
    ],
)  # fmt: skip
def test_the_last_record_is_known(log: Trail, numbers: tuple[int, int]) -> None:
    """Whoever wrote it; a boot says nothing of a device."""
    ((entry,), _, _) = read([bytes(log)])
    assert (entry.serial, entry.last) == numbers
