# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may define a guest names it so that the administrator's own shell, completing that name, runs a command.

In a real interactive bash at a terminal, with history expansion on: it puts an earlier command in the place of ``!…``
within double quotes, too, before anything else is read.
"""

import os
from pathlib import Path

import pytest
from test_completion import bash_in_a_terminal, until

EARLIER = "touch $(touch ran; echo other)"
"""What the administrator once ran; run again, it leaves ``ran``."""
NAMES = ["w!touch", "w!!", "w!-1", "w!?ran?", "w$(touch ran)", "w`touch ran`", "w\\", "w'", 'w"', "w\x1b[200~", "w\x01"]
RUNS = ["w!touch", "w!!", "w$(touch ran)", "w`touch ran`"]
"""Those that do it, where somebody types them within double quotes."""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """A virsh that knows the guests in the file ``names``."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/virsh").write_text(f"#!/bin/sh\ncat {tmp_path}/names\n")
    (tmp_path / "bin/virsh").chmod(0o755)
    return tmp_path


def _shown(folder: Path, name: str, typed: str) -> str:
    """What the terminal shows when this is typed, where a guest of that name is the only one; ``ran`` may be there."""
    (folder / "names").write_text(f"{name}\n")
    with bash_in_a_terminal(folder) as terminal:
        os.write(terminal, f"{EARLIER}\n".encode())
        until(terminal, "ready> ")
        (folder / "ran").unlink()
        os.write(terminal, f"{typed}\n".encode())
        shown = until(terminal, "> ")
        if shown.endswith("more> "):
            os.write(terminal, typed.encode().split()[2][:1] + b"\n")  # the quote that is still open
            shown += until(terminal, "> ")
        return shown


@pytest.mark.parametrize("quote", ["", "'", '"'])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_completing_the_name_runs_nothing(folder: Path, name: str, quote: str) -> None:
    """It is not offered, so that what libhook gets is what was typed, and no more."""
    shown = _shown(folder, name, f"libhook detach {quote}w\t")
    assert "<detach><w" in shown
    assert not (folder / "ran").exists()
    assert f"<{name}>" not in shown


@pytest.mark.parametrize("name", RUNS)
def test_such_a_name_is_dangerous_in_this_very_shell(folder: Path, name: str) -> None:
    """Typed in full, it does run the command: what the test above sees could have happened."""
    _shown(folder, name, f'libhook detach "{name}"')
    assert (folder / "ran").exists()


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_another_guest_is_offered_all_the_same(folder: Path, quote: str) -> None:
    """The names of others keep nobody from completing an ordinary one."""
    shown = _shown(folder, "w!touch\nwin 11\n--help", f"libhook detach {quote}w\t")
    assert "<detach><win 11>" in shown
    assert not (folder / "ran").exists()
