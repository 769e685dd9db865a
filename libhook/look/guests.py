# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guests that libvirt's own files name: those that are defined, and those that run.

Only commands look here. libvirt is not asked: that needs its daemon, and its Python package.
"""

import os
import re
from contextlib import suppress
from typing import NamedTuple

from libhook.facts.machine import Machine
from libhook.look import libvirtd
from libhook.xml.prolog import MAX_BYTES

_DEFINED, _RUNNING = "etc/libvirt/qemu", "run/libvirt/qemu"


_UUID = re.compile(rb"<uuid>\s*([0-9a-fA-F-]{36})\s*</uuid>")
"""The first in a document is the guest's: libvirt writes it before all that the guest's author may write freely."""


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
            path = f"{machine.root}/{folder}/{name}"
            with suppress(FileNotFoundError), open(path, "rb") as file:
                text = file.read(MAX_BYTES + 1)
                found.append(Document(path, libvirtd.domain_in(text) if folder == _RUNNING else text))
    return found


def uuids(machine: Machine) -> set[str]:
    """The UUIDs of the guests that are defined, or that run. OSError as ``documents``."""
    found = (_UUID.search(document.xml) for document in documents(machine))
    return {one[1].decode().lower() for one in found if one}
