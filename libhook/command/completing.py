# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tab completion in bash, zsh and fish, by argcomplete: the shell runs libhook, which says what may stand there.

The names of guests and files are foreign. A shell acts on some characters even within quotes, and argcomplete quotes
for bash alone. So no name is offered that has any but the harmless characters below. argcomplete's own completer of
files is not used: it has a shell evaluate what was typed, and what was typed may be a folder's name that was completed.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from libhook.children import telling
from libhook.children.child import Deadline
from libhook.command import virsh
from libhook.errors import LibhookError
from libhook.facts.machine import Machine
from libhook.look import guests

_HARMLESS = frozenset(" ._+@%,:=-")
_HARMLESS_IN_PATHS = frozenset("._+@:-/")
_PATIENCE = 2.0
"""Seconds that guests and files have to be named, all in all. Somebody waits for the prompt."""


def complete(parser: argparse.ArgumentParser, machine: Machine) -> None:
    """Answer the shell that asks, and end the process. Returns only if no shell asks, or argcomplete is not there."""
    try:
        import argcomplete
    except ImportError:
        return
    for action in _actions(parser):
        if action.choices is None:
            metavar = "GUEST" if "--vm" in action.option_strings else str(action.metavar or "")
            action.completer = _completer(machine, metavar)  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options=False)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def _completer(machine: Machine, metavar: str) -> Callable[..., list[str]]:
    """What completes a value that is called so in the help. A child looks: a disk may hang, or a server of files."""
    is_guest = any(word in metavar for word in ("GUEST", "DOMAIN"))
    is_file = any(word in metavar for word in ("XML", "FILE", "PATH"))
    is_thing = metavar == "THING"

    def found(prefix: str, **_: object) -> list[str]:
        def look(say: Callable[[bytes], None]) -> None:
            found = (_guests(machine) if is_guest else ()), (_files(prefix) if is_file else ())
            for name in (*found[0], *found[1], *(_things(machine) if is_thing else ())):
                say(os.fsencode(name))

        names = list[str]()
        if is_guest or is_file or is_thing:
            with suppress(LibhookError):  # no process can be started
                names = telling.lines(look, Deadline.after(_PATIENCE))
        return [name for name in names if name.startswith(prefix)]

    return found


def _guests(machine: Machine) -> list[str]:
    """The names of libvirt's guests, as far as they can be had. Its files are root's."""
    names = list[str]()
    if machine.root or os.geteuid() == 0:
        names = guests.names(machine)
    else:
        with suppress(LibhookError):
            done = virsh.ask("-r", "list", "--all", "--name", patience=_PATIENCE)
            names = done.stdout.decode(errors="replace").split("\n")
    return [name for name in names if _is_harmless(name)]


def _things(machine: Machine) -> list[str]:
    """What may be given up, as far as it may be read."""
    from libhook.command import givingup  # it brings much with it
    from libhook.story.session import state_of

    with suppress(LibhookError, OSError):
        found = givingup.words(state_of(machine))
        return [name for name in found if set(name) <= _HARMLESS_IN_PATHS | {*filter(str.isalnum, name)}]
    return []


def _files(prefix: str) -> list[str]:
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
