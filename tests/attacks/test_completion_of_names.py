# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may define a guest, or make a folder, names it so that the administrator's own shell runs a command.

In real interactive shells at a terminal, with history expansion on: it puts an earlier command in the place of ``!…``
within double quotes, too, before anything else is read.
"""

import os
from pathlib import Path

import pytest
from argcomplete import completers
from shells import INSTALLED, PROMPT, at_a_terminal, define, prepare, typed, until

pytestmark = pytest.mark.race

EARLIER = "touch $(touch ran; echo other)"
"""What the administrator once ran; run again, it leaves ``ran``."""
FOLDER = "d';touch ran;'"
NAMES = ["w!touch", "w!!", "w$(touch ran)", "w`touch ran`", "w;touch ran"]
MORE = [
    "w!-1",
    "w!?ran?",
    "w(touch ran)",
    "w\\",
    "w'",
    'w"',
    "w\x1b[200~",
    "w\x01",
    "w{,}",
    "w|touch ran",
    "w&touch ran",
    "w\rtouch ran",
]
"""These, in bash alone: each costs a shell."""
RUNS = ["w!touch", "w!!", "w$(touch ran)", "w`touch ran`"]
"""Those that do it, where somebody types them within double quotes."""


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host that has no guests yet."""
    folder = tmp_path_factory.mktemp("attacks")
    prepare(folder)
    return folder


def _type(shell: str, folder: Path, names: list[str], line: str) -> tuple[str, bool]:
    """What the command gets of a line with a TAB in it, where libvirt has these guests; and whether anything ran."""
    define(folder, names)
    ran = folder / "work/ran"
    ran.unlink(missing_ok=True)
    shown = typed(shell, folder, line, "<detach>.*|more> |quote> |> $")
    return shown, ran.exists()


@pytest.mark.parametrize("quote", ["", '"'], ids=["bare", "quoted"])
@pytest.mark.parametrize(
    ("shell", "name"),
    [(shell, name) for shell in INSTALLED for name in NAMES + MORE * (shell == "bash")],
    ids=ascii,
)
def test_completing_the_name_runs_nothing(folder: Path, shell: str, name: str, quote: str) -> None:
    """It is not offered, so that what libhook gets is what was typed, and no more."""
    shown, ran = _type(shell, folder, [name], f"libhook detach {quote}w\t{quote}")
    assert not ran
    assert "<detach><w>" in shown


@pytest.mark.parametrize("name", RUNS)
def test_such_a_name_is_dangerous_in_this_very_shell(folder: Path, name: str) -> None:
    """Typed in full, it does run the command: what the test above sees could have happened."""
    with at_a_terminal("bash", folder) as terminal:
        os.write(terminal, f"{EARLIER}\n".encode())
        until(terminal, PROMPT)
        (folder / "work/ran").unlink()
        os.write(terminal, f'libhook detach "{name}"\n'.encode())
        until(terminal, PROMPT)
    assert (folder / "work/ran").exists()


@pytest.mark.parametrize("shell", INSTALLED)
def test_another_guest_is_offered_all_the_same(folder: Path, shell: str) -> None:
    """The names of others keep nobody from completing an ordinary one."""
    shown, ran = _type(shell, folder, ["w!touch", "win 11", "--help"], "libhook detach w\t")
    assert "<detach><win 11>" in shown
    assert not ran


@pytest.mark.parametrize("shell", INSTALLED)
def test_a_folder_with_a_quote_in_its_name(folder: Path, shell: str) -> None:
    """Typed by whoever looks for a file in it: nothing evaluates it."""
    _make(folder / "work")
    define(folder, [])
    shown = typed(shell, folder, f'libhook plan "{FOLDER}/g\t', "<plan>.*|more> ")
    assert "guest.xml>" in shown or shell == "zsh"
    assert not (folder / "work/ran").exists()


def test_such_a_folder_is_dangerous_with_the_librarys_own_completer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a shell evaluate what was typed: what the test above sees could have happened."""
    _make(tmp_path)
    monkeypatch.chdir(tmp_path)
    completers.FilesCompleter()(f"{FOLDER}/g")  # type: ignore[no-untyped-call]  # it has no types
    assert (tmp_path / "ran").exists()


def _make(folder: Path) -> None:
    (folder / FOLDER).mkdir(exist_ok=True)
    (folder / FOLDER / "guest.xml").touch()
    (folder / "ran").unlink(missing_ok=True)
