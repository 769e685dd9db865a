# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook handlers``: which handlers by others there are; ``enable`` checks one and puts it into the index."""

import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

from libhook.children import hosted
from libhook.children.child import Deadline
from libhook.command import standing
from libhook.command.settings import Files
from libhook.command.usage import meant
from libhook.effects import files
from libhook.errors import BadInput, LibhookError
from libhook.errors import named as unpasted
from libhook.facts import ownhandler
from libhook.facts.config import ASKED_FOR, HANDLERS
from libhook.facts.machine import Machine
from libhook.facts.ownhandler import Enabled
from libhook.facts.written import named
from libhook.look import ownhandlers
from libhook.look.ownhandlers import Code
from libhook.story import consult
from libhook.story.session import make_state

_PATIENCE = 10.0


class Row(NamedTuple):
    """One handler."""

    name: str
    state: str
    """As in ``Standing``."""
    why: str
    """What is wrong, and what to do; "" where it is enabled."""
    operations: tuple[str, ...]
    needs: tuple[str, ...]
    provides: tuple[str, ...]
    wanted_by: tuple[str, ...]
    """The sections of the settings that want it."""

    @property
    def line(self) -> str:
        """The row as text."""
        parts = [f"{self.name}  {self.state}", " ".join(self.operations)]
        parts += [f"{what} {' '.join(names)}" for what, names in (("needs", self.needs), ("provides", self.provides))]
        parts = [part for part in parts if part and part.strip() not in ("needs", "provides")]
        by = f"wanted by {', '.join(self.wanted_by)}" if self.wanted_by else "no section wants it"
        return "  ".join((*parts, by, *((self.why,) if self.why else ())))


def table(machine: Machine) -> list[Row]:
    """Return every handler that is in the folder, in the index or in the settings."""
    index, wanted = consult.read_index(machine), _wanted(machine)
    return [_row(machine, name, index, wanted) for name in sorted({*ownhandlers.names(machine), *index, *wanted})]


def _wanted(machine: Machine) -> dict[str, list[str]]:
    """The sections that want handlers, by the handler."""
    found: dict[str, list[str]] = {}
    for section in Files.read(machine).settings.sections:
        for name in section.values.get(HANDLERS, {}):
            found.setdefault(name, []).append(named(section.keys) or "all guests")
    return found


def _row(machine: Machine, name: str, index: Mapping[str, Enabled], wanted: Mapping[str, list[str]]) -> Row:
    enabled, by, (state, what, why) = index.get(name), tuple(wanted.get(name, ())), standing.of(machine, name, index)
    if state in ("missing", "not trusted"):
        why = f"{what}: {why}"
    if enabled is None:
        return Row(name, state, why, (), (), (), by)
    declared = enabled.declared
    return Row(name, state, why, declared.operations, declared.needs, declared.provides, by)


def enable(machine: Machine, name: str) -> list[str]:
    """Check a handler, and put it into the index. Return lines that say what it asks for."""
    _expect_name(name)
    with make_state(machine).locked([HANDLERS], Deadline.after(_PATIENCE)):
        index = consult.read_index(machine)
        enabled = inspect(machine, _read(machine, name))
        all_ = {other: one.declared for other, one in index.items()} | {name: enabled.declared}
        try:
            ownhandler.providers(name, all_)
            ownhandler.in_order(all_)
        except BadInput as error:
            raise BadInput(f"the handler {name}: {error.message}", error.hint) from None
        _write(machine, {**index, name: enabled})
    operations, needs, provides = enabled.declared[1:]
    lines = [f"{name}: enabled; it is asked at {', '.join(operations)}"]
    lines += [f"{name}: it needs {', '.join(needs)}"] if needs else []
    lines += [f"{name}: it provides {', '.join(provides)}"] if provides else []
    lines += [f"{name}: it imports {', '.join(enabled.modules)}"]
    if name not in _wanted(machine):
        lines.append(f"{name}: no section of the settings wants it yet: write [domains.GUEST.{HANDLERS}.{name}]")
    return lines


def _read(machine: Machine, name: str) -> Code:
    """Read a handler's files. BadInput where there is none also says which was probably meant."""
    names = ownhandlers.names(machine)
    try:
        return ownhandlers.read(machine, name)
    except BadInput as error:
        near = "" if name in names else meant(name, names).removeprefix(": ")
        raise BadInput(error.message, f"{near} {error.hint}".strip()) from None


def inspect(machine: Machine, code: Code) -> Enabled:
    """Load a handler as the hook does, and return what the index has of it. BadInput says what is wrong with it."""
    sources = [hosted.Source(file.module, file.path, file.text) for file in code.files]
    deadline = Deadline.after(_PATIENCE)
    where = code.files[0].path
    try:
        found = consult.run(machine, code, ("ast",), deadline, lambda: hosted.imports(sources))
        modules = _known_modules(code, found.get("imports"))
        deadline = Deadline.after(ASKED_FOR)
        found = consult.run(
            machine, code, modules, deadline, lambda: hosted.declaration(sources, is_package=code.is_package)
        )
        declared = ownhandler.declared_from(found.get("declared"))
    except consult.Failed as error:
        raise BadInput(f"the handler {code.name}: {error.message}", error.hint) from None
    except BadInput as error:
        raise BadInput(f"the handler {code.name}: {where}: it {error.message}", error.hint) from None
    return Enabled(declared, modules, tuple(file.stamp for file in code.files))


def _known_modules(code: Code, imports: object) -> tuple[str, ...]:
    """What it imports. Failed says where it imports what it may not."""
    found = imports if isinstance(imports, dict) else {}
    for name, where in found.items():
        try:
            ownhandler.expect_known([name])
        except BadInput as error:
            near = meant(str(name), ownhandler.MODULES).removeprefix(": ")
            hint = f"{near} {error.hint}".strip()
            raise consult.Failed(f"{consult.placed(code, *where)}: it {error.message}", hint) from None
    return tuple(found)


def disable(machine: Machine, name: str) -> list[str]:
    """Take a handler out of the index. Return lines that say what that means."""
    _expect_name(name)
    with make_state(machine).locked([HANDLERS], Deadline.after(_PATIENCE)):
        index = consult.read_index(machine)
        if index.pop(name, None) is None:
            return [f"{name}: it is not enabled{meant(name, index)}"]
        _write(machine, index)
    lines = [f"{name}: disabled"]
    if by := _wanted(machine).get(name):
        lines.append(f"{name}: {', '.join(by)} wants it, so guests of that are refused until the settings change")
    return lines


def _expect_name(name: str) -> None:
    if not ownhandler.is_name(name) or name.startswith("_"):
        raise BadInput(
            f"{unpasted(name)} cannot be a handler's name", f"name a file in {ownhandler.FOLDER}, without .py"
        )
    if name in sys.stdlib_module_names or name == "libhook":
        raise BadInput(f"{name} is the name of a module of Python's or libhook's", "give the handler another name")


def _write(machine: Machine, index: Mapping[str, Enabled]) -> None:
    """Write the index. Everybody may read it."""
    path = f"{machine.root}{consult.INDEX}"
    try:
        files.replace(path, ownhandler.write_index(index))
        os.chmod(path, 0o644)
    except OSError as error:
        raise LibhookError(f"{consult.INDEX} cannot be written ({error.strerror})", "make that possible") from None
