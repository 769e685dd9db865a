# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tab completion in bash, zsh and fish, by argcomplete: the shell runs libhook, which says what may stand there.

The names of guests and files are foreign. A shell acts on some characters even within quotes, and argcomplete quotes
for bash alone. So no name is offered that has any but the harmless characters below. argcomplete's own completer of
files is not used: it has a shell evaluate what was typed, and what was typed may be a folder's name that was completed.
"""

import argparse
import os
import subprocess
from collections.abc import Callable, Iterator

_HARMLESS = frozenset(" ._+@%,:=-")
_PATIENCE = 2.0
"""Seconds that libvirt has to name its guests. Somebody waits for the prompt."""
_VIRSH = ("virsh", "-r", "-q", "-c", "qemu:///system", "list", "--all", "--name")


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that asks, and end the process. Returns only if no shell asks, or argcomplete is not there."""
    try:
        import argcomplete
    except ImportError:
        return
    for action in _actions(parser):
        if action.choices is None:
            metavar = "GUEST" if "--vm" in action.option_strings else str(action.metavar or "")
            action.completer = _completer(metavar)  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options=False)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def _completer(metavar: str) -> Callable[..., list[str]]:
    """What completes a value that is called so in the help."""

    def found(prefix: str, **_: object) -> list[str]:
        names = guests() if any(word in metavar for word in ("GUEST", "DOMAIN")) else []
        if any(word in metavar for word in ("XML", "FILE", "PATH")):
            names += files(prefix)
        return [name for name in names if name.startswith(prefix)]

    return found


def guests() -> list[str]:
    """The names of libvirt's guests; none if libvirt does not answer in time."""
    try:
        done = subprocess.run(_VIRSH, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [name for name in done.stdout.decode(errors="replace").split("\n") if _is_harmless(name)]


def files(prefix: str) -> list[str]:
    """The files and folders that may be meant by the beginning of a path."""
    folder, begun = os.path.split(prefix)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries]
    except (OSError, ValueError):
        return []
    return [
        os.path.join(folder, name) + "/" * is_folder
        for name, is_folder in sorted(found)
        if _is_harmless(name) and (begun or not name.startswith("."))
    ]


def _is_harmless(name: str) -> bool:
    """Whether no shell acts on this name, wherever it is typed, and libhook takes it for no option."""
    first = name[:1]
    return (first.isalnum() or first in ("_", ".")) and all(one.isalnum() or one in _HARMLESS for one in name)
