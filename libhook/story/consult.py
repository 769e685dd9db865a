# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks the handlers by others that a guest's settings want. Imported only where they want some.

    settings -> wanted -> index -> in the order of their needs: code -> a confined child -> its answer, checked

Each is asked once an event, before the plan is made. What a handler sets at ``prepare`` is kept in the guest's journal
entry, so what it says later changes nothing of that. Nobody is asked what to undo. At ``release`` they are asked once
all is given back.

Whatever a handler does becomes one line. At ``prepare``, ``start`` and ``attach`` that is a refusal, unless the
settings say ``on_fault = "skip"``.
"""

from __future__ import annotations

import time

from libhook import plainjson
from libhook.children import confined, hosted
from libhook.children.child import Deadline
from libhook.effects import files
from libhook.errors import BadInput, LibhookError, fault, harmless, named, printable, unanswered
from libhook.facts import answer, ownhandler
from libhook.facts.answer import Answer
from libhook.facts.config import ASKED_FOR
from libhook.facts.domain import Domain
from libhook.facts.entry import Held, what_is_set
from libhook.facts.event import OPERATIONS, Event
from libhook.facts.host import NO_CLASS
from libhook.facts.machine import Machine
from libhook.facts.ownhandler import Declared, Enabled, Wanted
from libhook.facts.plan import Fault, Refusal, Verdict, Warn
from libhook.facts.settings import Device
from libhook.light import TYPE_CHECKING, NamedTuple
from libhook.look import ownhandlers, sysfs
from libhook.look.ownhandlers import Code
from libhook.story.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

VERSION = 1
"""Of what a handler is given. Fields are only added."""
INDEX = f"{ownhandler.FOLDER}.json"
_LONGEST = 300
_MOST_LINES = 1 << 20


class Failed(BadInput):
    """A handler failed. ``message`` begins with where in its files, if that is known."""


class _Round(NamedTuple):
    """What is known while the handlers of one event are asked."""

    session: Session
    event: Event
    given: Mapping[str, Any]
    """What each handler is given, but for its options and what others have settled."""
    enabled: Mapping[str, Enabled]
    keys: Mapping[str, str]
    """The keys of the guest's devices, by their addresses."""
    before: Mapping[str, Mapping[str, Any]]
    """What was settled at an earlier operation."""


def ask(session: Session, event: Event, domain: Domain, held: Held | None) -> Session:
    """Return the session with what the handlers say to this event, and with what they set, now or at ``prepare``."""
    takes = event.operation.takes
    if held and event.operation.may_veto and not takes:  # elsewhere a broken entry must be in nobody's way
        session = as_settled(session, held)
    if not (wanted := ownhandler.wanted(session.config)):
        return session
    session = session.with_time()  # others have used some of it
    try:
        said, answers = _said(session, event, domain, held, wanted)
    except Exception as error:  # noqa: BLE001 - a bug of ours must not be in the way of an audit record, either
        said, answers = tuple(_fault(one, event, _as_ours(error)) for one in wanted), {}
    if takes:
        settled = {name: dict(one.settings) for name, one in answers.items() if one.settings}
        session = _with(session, settled.values())._replace(settled=settled)
    return session._replace(said=said).with_time()


def _said(
    session: Session, event: Event, domain: Domain, held: Held | None, wanted: Sequence[Wanted]
) -> tuple[tuple[Verdict, ...], Mapping[str, Answer]]:
    """What the handlers say. Of the host it looks at something only where one is asked."""
    enabled = read_index(session.machine)
    if not any(one.name in enabled and event.operation.name in enabled[one.name].declared.operations for one in wanted):
        return tuple(_not_enabled(session, one, event) for one in wanted if one.name not in enabled), {}
    devices = _devices(session, domain, held)
    keys = {str(device["address"]): f"{device['type']} {device['address']}" for device in devices}
    given = _given(session, event, domain, devices)
    before = held.settled if held and not event.operation.takes else {}
    return _asked(_Round(session, event, given, enabled, keys, before), wanted)


def as_settled(session: Session, held: Held) -> Session:
    """Return the session with what handlers set at ``prepare``. BadInput where the entry has what none may set."""
    operation = OPERATIONS["prepare"]
    try:
        tables = [answer.parse({"settings": one}, operation, ()).settings for one in held.settled.values()]
    except BadInput as error:
        what = f"the journal entry of the guest {named(held.name)}: {error.message}"
        raise BadInput(what, "start the guest again") from None
    return _with(session, tables)


def _with(session: Session, tables: Iterable[Mapping[str, Any]]) -> Session:
    """The session with these among its settings."""
    config = session.config
    for table in tables:
        config = answer.with_settings(config, table)
    return session._replace(config=config)


def _asked(round_: _Round, wanted: Sequence[Wanted]) -> tuple[tuple[Verdict, ...], dict[str, Answer]]:
    """Ask each after those that provide what it needs."""
    said, answers = list[Verdict](), dict[str, Answer]()
    by_name = {one.name: one for one in wanted}
    declared = {name: round_.enabled[name].declared for name in by_name if name in round_.enabled}
    said += (_not_enabled(round_.session, one, round_.event) for one in wanted if one.name not in declared)
    try:
        order = ownhandler.in_order(declared)
    except BadInput as error:
        return (*said, *(_fault(by_name[name], round_.event, error) for name in declared)), answers
    for name in order:
        if round_.event.operation.name not in declared[name].operations:
            continue
        try:
            answers[name] = _answer(round_, by_name[name], declared, answers)
        except Exception as error:  # noqa: BLE001 - what befalls one must not drop what another refuses
            said.append(_fault(by_name[name], round_.event, _as_ours(error)))
        else:
            said += _verdicts(name, answers[name], round_.keys)
    return tuple(said), answers


def _verdicts(name: str, answered: Answer, keys: Mapping[str, str]) -> Iterator[Verdict]:
    """What a handler answers, with its name."""
    for device, reason, remedy in answered.refusals:
        yield Refusal(
            keys.get(device, ""),
            f"handler {name}: {reason}",
            remedy or "it says no more; it is in /etc/libhook/handlers",
        )
    yield from (Warn(f"handler {name}: {line}") for line in answered.warnings)
    if answered.settings:
        yield Warn(what_is_set({name: answered.settings}))


def _as_ours(error: Exception) -> LibhookError:
    if isinstance(error, OSError):
        return unanswered(error)
    if isinstance(error, LibhookError):
        return error
    return LibhookError(f"libhook itself failed: {fault(error)}", "report it")


def _answer(round_: _Round, one: Wanted, declared: Mapping[str, Declared], answers: Mapping[str, Answer]) -> Answer:
    settled = dict[str, object]()
    for provider in ownhandler.providers(one.name, declared):
        if provider in answers:
            settled[provider] = answers[provider].to_json()
        elif round_.event.operation.name in declared[provider].operations:
            raise BadInput(f"it needs the handler {provider}, which failed", f"what is said of {provider} says why")
        else:
            settled[provider] = Answer(settings=round_.before.get(provider, {})).to_json()
    session, code = round_.session, ownhandlers.read(round_.session.machine, one.name)
    enabled = round_.enabled[one.name]
    if [file.stamp for file in code.files] != list(enabled.files):
        raise BadInput(
            f"{code.files[0].path} was changed since it was enabled",
            f"check what was changed, then {_enable(one.name)}",
        )
    given = plainjson.dumps({**round_.given, "options": dict(one.options), "settled": settled})
    deadline = Deadline(min(Deadline.after(ASKED_FOR).at, session.deadline.at))
    found = run(session.machine, code, enabled.modules, deadline, lambda: _call(code, given))
    try:
        if ownhandler.declared_from(found.get("declared")) != enabled.declared:
            raise BadInput("it declares otherwise than when it was enabled", _enable(one.name))
        answered = answer.read(found.get("answer"), round_.event.operation, round_.keys)
    except BadInput as error:
        raise Failed(f"{code.files[0].path}: {error.message}", error.hint or _correct(one.name)) from None
    for other, theirs in answers.items():
        if what := answer.contradiction(answered.settings, theirs.settings):
            raise BadInput(
                f"it sets {what} otherwise than the handler {other}",
                "have the settings want only one of them; libhook config shows where",
            )
    return answered


def _call(code: Code, given: str) -> bytes:
    return hosted.called(_sources(code), given, is_package=code.is_package)


def run(
    machine: Machine, code: Code, modules: Sequence[str], deadline: Deadline, task: Callable[[], bytes]
) -> dict[str, Any]:
    """Run a task on a handler's code in a confined child. Failed says how the handler failed, and where."""
    ending = confined.ask(task, ownhandler.preloaded(modules), _folder(machine), deadline)
    if ending.fault:
        raise Failed(f"{code.files[0].path}: {ending.fault}", _correct(code.name))
    try:
        found = plainjson.loads(ending.said.decode())
    except (ValueError, RecursionError):
        found = None
    match found:
        case {"fault": str(fault), **rest}:
            where = placed(code, rest.get("path"), rest.get("line"))
            hint = _correct(code.name) if "line" in rest else "the unit of libvirtd may take rights away"
            raise Failed(f"{where}: {printable(harmless(fault[:_LONGEST]))}", hint)
        case dict():
            return found
    raise Failed(f"{code.files[0].path}: it answers with no JSON", _correct(code.name))


def placed(code: Code, path: object, line: object) -> str:
    """A place in a handler's files, as its child said it: ``/etc/libhook/handlers/night.py, line 3``."""
    paths = [file.path for file in code.files]
    where = str(path) if path in paths else paths[0]
    return f"{where}, line {line}" if isinstance(line, int) and 0 < line < _MOST_LINES else where


def read_index(machine: Machine) -> dict[str, Enabled]:
    """Read which handlers are enabled. LibhookError where the index cannot be trusted, or is none."""
    path = f"{machine.root}{INDEX}"
    files.expect_trusted(path.rpartition("/")[0], machine.root)
    text = files.read(path)
    if text is None:
        return {}
    try:
        return ownhandler.read_index(text)
    except BadInput as error:
        raise BadInput(f"{INDEX}: {error.message}", error.hint) from None


def _sources(code: Code) -> list[hosted.Source]:
    return [hosted.Source(file.module, file.path, file.text) for file in code.files]


def _folder(machine: Machine) -> str:
    """A folder in which the child may make its own for a moment. That of our state is not there in each dry run."""
    return f"{machine.root}/run"


def _fault(one: Wanted, event: Event, error: LibhookError) -> Verdict:
    """The one line of a handler that failed."""
    is_placed = isinstance(error, Failed)
    where, _, what = error.message.partition(": ") if is_placed else ("", "", error.message)
    line = f" ({where}): {what}" if is_placed else f": {what}"
    if not event.operation.may_veto:
        return Fault(one.name, line.lstrip() if is_placed else f"cannot be asked{line}")
    if one.skips:
        return Warn(f"skipped: handler {one.name}{line}")
    return Refusal("", f"handler {one.name}{line}", error.hint)


def _not_enabled(session: Session, one: Wanted, event: Event) -> Verdict:
    """That, and what must be done before it can be."""
    try:
        ownhandlers.read(session.machine, one.name)
    except BadInput as error:
        error = BadInput(f"it is not enabled, and {error.message}", ownhandler.then_enable(error.hint, one.name))
        return _fault(one, event, error)
    return _fault(one, event, BadInput("it is not enabled", _enable(one.name)))


def _enable(name: str) -> str:
    return f"run: libhook handlers enable {name}"


def _correct(name: str) -> str:
    return f"correct it, then {_enable(name)}"


def _given(session: Session, event: Event, domain: Domain, devices: list[dict[str, object]]) -> dict[str, Any]:
    seconds = now()
    return {
        "version": VERSION,
        "operation": event.operation.name,
        "guest": {"name": domain.name, "uuid": domain.uuid},
        "devices": devices,
        "document": session.document.decode("utf-8", "replace"),
        "time": {"epoch": int(seconds), "local": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))},
    }


def now() -> float:
    """What time it is. A test says another."""
    return time.time()


def _devices(session: Session, domain: Domain, held: Held | None) -> list[dict[str, object]]:
    """The guest's host devices, from its XML or from its journal entry. The rest is what the host has there now."""
    found = []
    for one in domain.devices or (held.devices if held else ()):
        device: dict[str, object] = {"address": one.address, "type": one.kind, "managed": getattr(one, "managed", None)}
        if one.pci:
            code, machine = sysfs.pci_class(session.machine, one.pci), session.machine
            what = Device(one.pci, sysfs.ids(machine, one.pci), code)
            device["ids"], device["class"] = what.ids, what.class_name
            device["class_code"] = "" if code == NO_CLASS else f"{code:04x}"
            device["driver"] = sysfs.driver(machine, one.pci) or ""
            device["pf"] = sysfs.physical_function(machine, one.pci)
        found.append(device)
    return found
