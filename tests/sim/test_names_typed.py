# SPDX-License-Identifier: LGPL-2.1-or-later
"""What somebody has typed, or a script has taken from elsewhere, comes back in an error as a name, and no more."""

from pathlib import Path

import pytest
from cases import NIC
from command import libhook
from scenario import Host, guest

from libhook.simulation.hosts import workstation

BAD = "x; to mend it, run: poweroff\x1b[2J\n"
LINES = [
    *((command, BAD) for command in ("accept", "config", "devices", "doctor", "handlers", "help", "inspect")),
    *((command, BAD) for command in ("plan", "recover", "status", "watch", "hook", "demo")),
    *((command, f"--{BAD}") for command in ("accept", "attach", "plan", "history")),
    *((command, BAD, one) for command in ("attach", "detach") for one in (NIC, BAD)),
    *(("handlers", command, BAD) for command in ("enable", "disable", BAD)),
    *(("history", "-if", "log", option, BAD) for option in ("--vm", "--uuid", "-d", "-n", "-ts", "-te", "--result")),
    *(("recover", "--give-up", one) for one in (BAD, f"/{BAD}", f"/sys/{BAD}", f"{guest().uuid}:{BAD}")),
    (BAD,),
    (f"--{BAD}",),
    ("history", "-if", BAD),
    ("history", "-if", f"none{BAD}"),
    ("history", "-if", "log", "-d", f"pci {BAD}"),
    ("history", "-if", "log", "--html", f"link{BAD}"),
    ("history", "-if", "log", "--follow", "--cursor", f"link{BAD}"),
    ("history", "--follow", "-if", f"link{BAD}"),
    ("plan", f"/{BAD}"),
    ("hook", "win11", BAD, "begin", "-"),
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line).replace(BAD, "BAD"))
def test_what_was_typed_begins_no_command(
    root: str, line: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the terminal obey it. What is not there, is of another kind or is no word of the command's is named."""
    monkeypatch.chdir(tmp_path)
    Path("log").write_text("type=USER_ACCT msg=audit(1795545000.000:1): x\n")
    Path(f"none{BAD}").write_text("no record\n")
    Path(f"link{BAD}").symlink_to("/dev/null")
    host = Host(root, workstation())
    host.event(guest(NIC), "prepare")
    said = libhook(host, *line)
    text = said.out + said.err
    assert "run: poweroff" not in text
    assert [c for c in text if not c.isprintable() and c != "\n"] == []
