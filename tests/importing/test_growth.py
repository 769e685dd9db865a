# SPDX-License-Identifier: LGPL-2.1-or-later
"""What scripts make large costs time by its size: a long line, many comparisons, many files."""

import time
from pathlib import Path

import pytest

from libhook.importing import importer, sources

SECONDS = 60
"""Far more than it takes on a busy machine; a square of these sizes takes hours."""


@pytest.mark.parametrize(
    "text",
    [
        "# " + "systemctl " * 90_000,
        "# " + "-/etc/" * 150_000,
        "# " + "modprobe a " * 80_000,
        "# " + "AllowedCPUs=0 " * 60_000,
        "true\n" * 100_000,
        "for i in $(seq 20000); do [[ $1$i == x ]]; done",
    ],
    ids=["units", "paths", "modules", "cpus", "lines", "comparisons"],
)
def test_a_large_script_is_read_in_time(tmp_path: Path, text: str) -> None:
    """Patterns look at no more of a line than people write, and at no more comparisons."""
    (tmp_path / "qemu").write_text(f'#!/bin/bash\n[ "$2" = prepare ] || exit 0\n{text}\n')
    begun = time.monotonic()
    importer.run(sources.read([str(tmp_path)]), [], ["x"], 4)
    assert time.monotonic() - begun < SECONDS
