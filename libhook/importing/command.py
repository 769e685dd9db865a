# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook import``: reads the scripts and the guests, shows the drop-in and the report, and writes the drop-in."""

import argparse
import json
import os
import pwd
import shutil
import sys
import time
from functools import partial

from libhook.children.child import Deadline
from libhook.effects.files import expect_trusted
from libhook.errors import BadInput, LibhookError, named, printable
from libhook.facts import complaints, settings
from libhook.facts.config import Source
from libhook.facts.machine import Machine
from libhook.importing import importer, sources
from libhook.importing.life import Guest
from libhook.look import patient
from libhook.xml import domxml

_LARGEST = 1 << 20
_SECONDS = 900.0
"""That the whole import may take."""
_PATIENCE = 2.0
"""Seconds for one file below /sys."""
_UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/run/systemd/transient", "/run/systemd/generator",
                 "/run/systemd/generator.late", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
                 "/lib/systemd/system")  # fmt: skip
_FIRST_USER = 1000
"""The number from which on users are people."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where systemd lets services look for programs (systemd.exec(5)): libvirt's hooks have it from their daemon."""


def run(machine: Machine, options: argparse.Namespace) -> int:
    """Run the command. Return 1 if what came out must not be written."""
    read = sources.read(options.path)
    users = {one.pw_name: one.pw_uid for one in pwd.getpwall() if one.pw_uid >= _FIRST_USER}
    host = importer.Host(_cpus(machine), _program, partial(_shows, machine), time.monotonic() + _SECONDS, users,
                         partial(_has_unit, machine))  # fmt: skip
    imported = importer.run(read, [guest(text) for text in options.guest], options.path, host)
    path = f"{machine.drop_ins}/{options.name}.toml"
    found = settings.read([Source(path, imported.text)])
    wrong = [
        one.text
        for one in complaints.of(found, (problem for section in found.sections for problem in section.problems))
    ]
    if options.json:
        sys.stdout.write(json.dumps({"text": imported.text, "errors": wrong, **imported.data}, indent=2) + "\n")
    else:
        for line in (*imported.text.splitlines(), *imported.lines):
            sys.stdout.write(f"{printable(line)}\n")
    for one in wrong:
        sys.stderr.write(f"{printable(one)}\n")
    if wrong:
        return 1
    is_empty = not any(section.values for section in found.sections)
    if is_empty and options.write:
        raise BadInput("nothing of these scripts became a setting", "name a guest with --guest, or see the report")
    if not is_empty and (options.write or (not options.json and _agreed(path))):
        write(machine, path, imported.text)
        sys.stderr.write(f"{path} is written: take the old scripts away, and try `libhook plan`\n")
    return 0


def guest(text: str) -> Guest:
    """A guest's name, or the file of its XML."""
    if not text.endswith(".xml"):
        return Guest(text)
    try:
        with open(text, "rb") as file:
            document = file.read(_LARGEST)
    except OSError as error:
        raise LibhookError(f"{named(text)}: {error.strerror}", "give a guest's name, or a file with its XML") from None
    domain = domxml.parse(document)
    return Guest(domain.name, document.decode("utf-8", "replace"), tuple(one.pci for one in domain.pci if one.pci))


def _program(name: str) -> str:
    """Where the hook would find a program; "" if it is not here."""
    return shutil.which(name, path=_PATH) or ""


def _shows(machine: Machine, path: str) -> str:
    """The first line of a file of the kernel's; "" if it cannot be read. A driver may block whoever reads."""
    (shown,) = patient.read_all([f"{machine.root}{path}"], Deadline.after(_PATIENCE), _PATIENCE)
    return shown if isinstance(shown, str) else ""


def _has_unit(machine: Machine, name: str) -> bool:
    """Whether systemd finds a unit, by the folders that it looks into (systemd.unit(5))."""
    return any(os.path.lexists(f"{machine.root}{folder}/{name}") for folder in _UNIT_FOLDERS)


def _cpus(machine: Machine) -> int:
    """How many CPUs this host has."""
    folder = f"{machine.root}/sys/devices/system/cpu"
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sum(name.startswith("cpu") and name[3:].isdigit() for name in names) or 4


def _agreed(path: str) -> bool:
    """Whether who sits at the terminal wants it written."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    sys.stdout.write(f"\nWrite this to {printable(path)}? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def write(machine: Machine, path: str, text: str) -> None:
    """Write a new file whole or not at all, and never over another."""
    expect_trusted(machine.drop_ins, machine.root)
    os.makedirs(machine.drop_ins, mode=0o755, exist_ok=True)
    temporary = f"{path}.{os.getpid()}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(descriptor)
        os.link(temporary, path)  # unlike a rename, it fails where a file is there already
    except FileExistsError:
        raise BadInput(f"{named(path)} is there already", "take it away, or write to another with --name") from None
    finally:
        os.unlink(temporary)
