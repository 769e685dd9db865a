# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is left to the reader, and what needs no word: programs that only ask, notes that nobody reads, and the like."""

from pathlib import Path

import pytest
from test_carried import fates, imported, reasons


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("route | grep -q '^default'", {"left", "needless"}), ("route add default gw 10.0.0.1", {"kept"}),
        ("IF=$(foo list)", {"left"}), ("foo list | awk '{print $1}'", {"left"}), ("ID=$(foo run -d x)", {"kept"}),
        ("foo list | tee -a /var/log/x", {"kept"}), ("foo list || grep x /dev/null", {"kept"}),
    ],
)  # fmt: skip
def test_what_a_script_only_reads_is_no_entry(tmp_path: Path, line: str, what: set[str]) -> None:
    """A program whose answer is read, and whose words do not act, seems to ask."""
    found = imported(tmp_path, begin=line)
    assert fates(found).get(line, {"needless"}) <= what | {"needless"}
    assert ("[run." in found.text) == ("kept" in what)
    assert "left" not in fates(found).get(line, set()) or "it seems only to ask" in reasons(found, "left")
