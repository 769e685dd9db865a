# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guests that libvirt's own files name: those that are defined, and those that run.

Commands look here, and `started` where a note of a guest may go. libvirt is not asked: that needs its daemon, and its
Python package.
"""

import os
import re
from contextlib import suppress
from typing import NamedTuple

from libhook.facts.machine import Machine
from libhook.look import libvirtd
from libhook.xml.prolog import MAX_BYTES

_DEFINED, _RUNNING = "etc/libvirt/qemu", "run/libvirt/qemu"

_NETWORKS = ("etc/libvirt/qemu/networks", "run/libvirt/network")
_POOL = re.compile(rb"<forward\s[^>]*\bmode=['\"]hostdev['\"]")


class Document(NamedTuple):
    """The XML of one guest, and the file that it is from."""

    path: str
    xml: bytes


def documents(machine: Machine) -> list[Document]:
    """The XML of each guest that is defined, then of each that runs. OSError where a folder or file cannot be read."""
    found = []
    for folder in (_DEFINED, _RUNNING):
        names = list[str]()
        with suppress(FileNotFoundError):
            names = sorted(name for name in os.listdir(f"{machine.root}/{folder}") if name.endswith(".xml"))
        for name in names:
            with suppress(FileNotFoundError):
                found.append(_read(machine, folder, name))
    return found


def uuids(machine: Machine) -> set[str]:
    """The UUIDs of the guests that are defined, or that run. OSError as ``documents``."""
    return {libvirtd.uuid_in(document.xml) for document in documents(machine)}


def find(machine: Machine, wanted: str, *, live: bool) -> Document | None:
    """The guest with this name or UUID; None where libvirt's files have none. OSError where they cannot be read.

    With ``live``, what a guest that runs has now, else what its next start has. Where libvirt has only one of the two,
    that is it. A UUID goes before a name.
    """
    folders = (_RUNNING, _DEFINED) if live else (_DEFINED, _RUNNING)
    if _is_uuid(wanted):
        those = [one for one in documents(machine) if libvirtd.uuid_in(one.xml) == wanted.lower()]
        for folder in folders:
            for one in those:
                if one.path.startswith(f"{machine.root}/{folder}/"):
                    return one
    if "/" in wanted or "\0" in wanted:  # libvirt takes no such name for a guest with a file
        return None
    for folder in folders:
        with suppress(FileNotFoundError):
            return _read(machine, folder, f"{wanted}.xml")
    return None


def is_pool(machine: Machine, network: str) -> bool:
    """Whether a virtual network is a pool of VFs (``<forward mode='hostdev'>``), as far as its file can be read."""
    if "/" in network or "\0" in network:
        return False
    for folder in _NETWORKS:
        with suppress(OSError), open(f"{machine.root}/{folder}/{network}.xml", "rb") as file:
            if _POOL.search(file.read(MAX_BYTES)):
                return True
    return False


def names(machine: Machine) -> list[str]:
    """The names of all guests that libvirt's files name, as far as the folders can be read."""
    found = set[str]()
    for folder in (_DEFINED, _RUNNING):
        with suppress(OSError):
            found.update(name[:-4] for name in os.listdir(f"{machine.root}/{folder}") if name.endswith(".xml"))
    return sorted(found)


def _read(machine: Machine, folder: str, name: str) -> Document:
    path = f"{machine.root}/{folder}/{name}"
    with open(path, "rb") as file:
        text = file.read(MAX_BYTES + 1)
    return Document(path, libvirtd.domain_in(text) if folder == _RUNNING else text)


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and all(c in "0123456789abcdef-" for c in text.lower())
