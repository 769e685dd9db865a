# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds the guest that a command is asked about: by the name of a file, or by the guest's own name or UUID.

A guest's XML is read from libvirt's files, which only root may read. Others ask virsh, which asks libvirt's daemon.
"""

import os
from typing import NamedTuple

from libhook.command import virsh
from libhook.command.terminal import complain, read
from libhook.command.usage import meant
from libhook.errors import BadInput, LibhookError, harmless, named
from libhook.facts.domain import Domain
from libhook.facts.machine import Machine
from libhook.look import guests
from libhook.xml import domxml

_XML = "a file with a domain's XML, or a guest's name"
_PATIENCE = 20.0
"""Seconds for virsh to answer."""
_LISTS = "virsh list --all lists the guests"


class Document(NamedTuple):
    """A guest's XML, and where it is from, as messages name it."""

    source: str
    xml: bytes
    is_defined: bool = False
    """libvirt has it, so ``virsh start`` starts just this."""

    def domain(self, *, every_kind: bool = False) -> Domain:
        """Return the guest. Say on stderr what was passed over. BadInput names the source and the line."""
        try:
            domain = domxml.parse(self.xml, every_kind=every_kind)
        except BadInput as error:
            raise BadInput(self._placed(error.message), error.hint) from None
        complain([f"skipped: {warning}" for warning in domain.skipped])
        return domain

    def _placed(self, message: str) -> str:
        """Put source and line before a message that ends with its line."""
        text, found, line = message.rpartition(", line ")
        source = named(self.source)
        return f"{source}, line {line}: {text}" if found and line.isdigit() else f"{source}: {message}"


def document(machine: Machine, word: str, *, live: bool) -> Document:
    """Return the XML of a file, of stdin for ``-``, or of the guest with this name or UUID.

    A file is meant by a word with a ``/``, by one that ends in ``.xml``, and wherever there is one of that name. With
    ``live`` a guest that runs is shown as it is now, else as its next start has it. LibhookError if nothing is found.
    """
    if word == "-":
        return Document("stdin", read(word, _XML))
    is_file = os.path.exists(word)
    if is_file or "/" in word or word.endswith(".xml"):
        if is_file and "/" not in word and word in guests.names(machine):
            clear = f"{named(f'./{word}')} or the guest's UUID is clear"
            complain([f"{named(word)} is a file here, and a guest: this is the file; {clear}"])
        return Document(word, read(word, _XML))
    try:
        found = guests.find(machine, word, live=live)
    except PermissionError:
        if machine.root:
            raise
        return Document(f"the guest {named(word)}", _asked(word, live=live), is_defined=True)
    if found is None:
        near = meant(word, guests.names(machine)).removeprefix(": ")
        raise BadInput(f"there is no file and no guest {named(word)}", f"{near} {_LISTS}".strip())
    return Document(found.path.removeprefix(machine.root), found.xml, is_defined=True)


def _asked(word: str, *, live: bool) -> bytes:
    """Ask virsh. LibhookError with its own words where it does not know."""
    done = virsh.ask("dumpxml", *(() if live else ("--inactive",)), "--", word, patience=_PATIENCE)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().removeprefix("error: ")
        raise LibhookError(
            f"virsh does not know the guest {named(word)}: {harmless(said)}", f"{_LISTS}; or {virsh.REMEDY}"
        )
    return done.stdout
