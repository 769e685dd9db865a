# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shells that a person might sit at, each in a real terminal, with the completion that install.sh puts in place."""

import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
INSTALLED = {
    "bash": "usr/local/share/bash-completion/completions/libhook",
    "zsh": "usr/local/share/zsh/site-functions/_libhook",
    "fish": "etc/fish/completions/libhook.fish",
}
PROMPT = "ready> "
_MORE = r"(more|quote)> (\033\[[?\w]*)*$"
"""Where the command line is not complete: PS2, and zsh's own."""
_COMMANDS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i", "-C", f"function fish_prompt; echo -n '{PROMPT}'; end"),
}
_BEGIN = {
    "bash": "source {0}/usr/local/share/bash-completion/completions/libhook",
    "zsh": "fpath=({0}/usr/local/share/zsh/site-functions $fpath); autoload -U compinit; compinit -u -D",
    "fish": "source {0}/etc/fish/completions/libhook.fish",
}
PATIENT = "from libhook.command import completing; completing._PATIENCE = 60"
"""What a libhook does first for which a machine that stands still is not late."""
_LIBHOOK = f"""#!/bin/sh
# As the command that install.sh writes; when it is not asked by a shell, it says what it was given.
if [ -n "${{_ARGCOMPLETE-}}" ]; then
    /usr/bin/python3 -c 'import sys; sys.path.insert(0, "{ROOT}"); {PATIENT}; from libhook.cli import main; main()' "$@"
    echo >>"${{0%/*}}/../answered"
    exit
fi
printf '<%s>' "$@"
"""


def prepare(folder: Path) -> None:
    """Install the completions below ``folder/host``, a host that has guests by ``define``, beside a libhook."""
    done = subprocess.run(
        [ROOT / "install.sh", "--destdir", folder / "host"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "bin").mkdir()
    for path in INSTALLED.values():
        installed = (folder / "host" / path).read_text()
        assert "/usr/local/bin/libhook" in installed
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(installed.replace("/usr/local/bin/libhook", f"{folder}/bin/libhook"))
    (folder / "bin/libhook").write_text(_LIBHOOK)
    (folder / "bin/libhook").chmod(0o755)
    (folder / "work").mkdir()


def define(folder: Path, names: Iterable[str]) -> None:
    """Give the host these guests, and no others."""
    files = folder / "host/etc/libvirt/qemu"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True)
    for name in names:
        (files / f"{name}.xml").touch()


def until(terminal: int, wanted: str, seconds: float = 60) -> str:
    """What the terminal shows, up to and with what matches the expression ``wanted``."""
    shown, end = "", time.monotonic() + seconds
    while not re.search(wanted, shown, flags=re.S):
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
            if "\033[c" in shown or "\033[0c" in shown:  # fish asks what terminal this is, and waits for the answer
                os.write(terminal, b"\033[?62c")
                shown = shown.replace("\033[c", "").replace("\033[0c", "")
    return shown


@contextmanager
def at_a_terminal(shell: str, folder: Path) -> Iterator[int]:
    """An interactive shell in the folder ``work``, at its prompt."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder / "work")
        environment = {
            "PATH": f"{folder}/bin:/usr/bin:/bin",
            "LIBHOOK_ROOT": f"{folder}/host",
            "PS1": PROMPT,
            "PS2": "more> ",
            "TERM": "dumb" if shell == "bash" else "xterm",
            "HOME": str(folder),
            "HISTFILE": "",
            "LC_ALL": "C.UTF-8",
        }
        os.execve(f"/usr/bin/{shell}", _COMMANDS[shell], environment)
    try:
        until(terminal, PROMPT)
        os.write(terminal, f"{_BEGIN[shell].format(folder)}; echo do''ne\n".encode())
        until(terminal, f"done.*{PROMPT}")
        yield terminal
    finally:
        os.write(terminal, b"\x03\x04")
        os.close(terminal)
        os.waitpid(child, 0)


def typed(shell: str, folder: Path, text: str, wanted: str) -> str:
    """What the terminal shows once this was typed, up to ``wanted``. Each TAB is waited for."""
    with at_a_terminal(shell, folder) as terminal:
        for part in re.split("(\t)", text):
            asked = _answers(folder)
            os.write(terminal, part.encode())
            end = time.monotonic() + 300
            while part == "\t" and _answers(folder) == asked:
                assert time.monotonic() < end, f"{shell} does not ask what may follow {text!r}"
                time.sleep(0.05)
        os.write(terminal, b"\n")
        shown = until(terminal, wanted)
        if re.search(_MORE, shown):
            os.write(terminal, b"\x03")
            until(terminal, PROMPT)
        # Once the shell does this, it has ended whatever it did before.
        os.write(terminal, b"echo al''so\n")
        return shown + until(terminal, "also")


def _answers(folder: Path) -> int:
    """How often libhook has been asked by a shell, and has answered."""
    path = folder / "answered"
    return path.stat().st_size if path.exists() else 0
