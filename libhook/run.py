# SPDX-License-Identifier: LGPL-2.1-or-later
"""One call of the hook, from argv to exit code.

    run     argv -> event -> anything to do?
    _act    stdin -> domain, settings -> dry run, or serve, or give back -> what is told of each operation

story/serving.py serves an event, and story/giveback.py undoes.

Only ``prepare`` and ``start`` may fail, and an old script of the settings at ``migrate`` and ``restore``. A bug of
ours, a broken file or a full disk must never harm a guest that runs.
"""

from __future__ import annotations

from libhook.effects.log import Log
from libhook.effects.state import State
from libhook.errors import BadInput, LibhookError, Refused, fault, unanswered
from libhook.facts import event
from libhook.facts.config import HANDLERS
from libhook.facts.domain import Domain
from libhook.facts.event import Event, Operation
from libhook.facts.machine import Machine
from libhook.facts.plan import Action, Plan
from libhook.kinds import registry as kinds
from libhook.light import TYPE_CHECKING, NamedTuple, suppress
from libhook.look import libvirtd
from libhook.story import giveback
from libhook.story.session import Session, state_of
from libhook.xml import prolog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libhook.facts.entry import Held
    from libhook.story.reading import Parse

_REINSTALL = "run install.sh again"


class Answer(NamedTuple):
    """What libvirtd gets: an exit code, and these lines on stderr."""

    code: int
    lines: tuple[str, ...] = ()
    printed: bytes = b""
    """For stdout: at ``migrate`` and ``restore`` that is the guest's XML from then on."""


class Call(NamedTuple):
    """The input of one call of the hook."""

    arguments: Sequence[str]
    """NAME OPERATION SUBOPERATION EXTRA."""
    document: Callable[[], bytes]
    """Reads the domain XML. It is called only when the XML is needed."""
    caller: int
    """The pid of the process that called the launcher: libvirtd, or a script that passes the call on."""
    dry_run: bool = False
    """Called by hand: print the plan and change nothing."""
    parse: Parse | None = None
    """Turns the document into a guest, where a child process parses it already."""
    unwaited: bool = False
    """libvirtd has its answer already. The launcher took the guest's lock before it answered, and we hold it."""
    is_logged: bool = True
    """The doctor calls at each of its runs, for a guest that nobody has."""


def run(machine: Machine, call: Call) -> Answer:
    """Do everything for one call, and return the answer. Only ``prepare`` and ``start`` fail, and a bad call."""
    with Log(machine, call.is_logged) as log:
        try:
            happening = event.parse(call.arguments)
        except BadInput as error:
            log.add("error", "bad call", reason=error.message)
            return Answer(2, (error.line,))
        if happening is None:
            log.add("warning", "unknown operation", guest=call.arguments[0], operation=call.arguments[1])
            return Answer(0)
        operation = happening.operation
        log.bind(guest=happening.guest, operation=operation.name)
        try:
            return _act(machine, call, happening, log)
        except LibhookError as error:
            line = error.line
        except ImportError as error:
            line = LibhookError(f"{_itself(operation)}: {fault(error)}", _REINSTALL).line
        except OSError as error:
            line = unanswered(error).line
        except Exception as error:  # noqa: BLE001 - a bug of ours must not become libvirtd's problem
            reason = f"{_itself(operation)}: {fault(error)}"
            line = LibhookError(reason, f"{_REINSTALL}, and report it").line
        log.add("error", "failed", reason=line)
        return Answer(1, (line,)) if operation.may_veto else Answer(0)


def _itself(operation: Operation) -> str:
    return f"libhook itself failed at {operation.name}"


def _act(machine: Machine, call: Call, happening: Event, log: Log) -> Answer:
    name = happening.operation.name
    state, document = state_of(machine), call.document()
    try:
        domain: Domain | None = _whose(state, call, document, happening)
    except BadInput as error:
        if name != "release":
            raise
        log.add("error", "bad document", reason=error.message)
        domain = None
    caller = libvirtd.of(machine, call.caller)
    whose = domain._replace(name=happening.guest) if domain else Domain(happening.guest, "", "", ())
    session = Session.open(machine, log, caller, whose)._replace(document=document)
    log.bind(uuid=domain.uuid if domain else "")
    for warning in domain.skipped if domain else ():
        log.add("warning", "device skipped", reason=warning)
    for warning in domain.back_door_warnings if domain and name == "prepare" else ():
        log.add("warning", "device not checked", reason=warning)
    # Somebody may turn dry_run on while a guest runs. What was handed over is still recorded and given back.
    under_way = name == "release" or (name != "prepare" and domain is not None and domain.uuid in state.uuids())
    if call.dry_run or (session.config.dry_run and not under_way):
        lines = plan(session, happening, domain).describe() if domain else ()
        for line in lines:
            log.add("info", "dry run", line=line)
        return Answer(0, lines)
    if session.served and (name == "prepare" or not happening.operation.acts):
        from libhook.effects import served  # most hosts have no settings

        served.write(machine, session.served)
    is_dry = session.config.dry_run and (domain is None or domain.uuid not in state.uuids())
    told = _told(session, happening, domain) if domain and not is_dry else ()
    try:
        _answer(session, call, happening, domain)
    except Exception:
        if domain and not happening.operation.may_veto:
            _pass_on(session, happening, domain, told)
        raise
    return _pass_on(session, happening, domain, told) if domain else Answer(0)


def _answer(session: Session, call: Call, happening: Event, domain: Domain | None) -> None:
    """Do what libhook itself does at this operation."""
    if happening.operation.gives_back:
        held = _entry(session, domain) if domain and HANDLERS in session.config.actions else None
        giveback.release(session._replace(event=happening), happening, domain)
        if domain and HANDLERS in session.config.actions:
            from libhook.story import consult  # few settings want handlers by others

            session.log_plan(Plan(consult.ask(session, happening, domain, held).said))
    elif domain is not None and _is_served(session, happening, domain, unwaited=call.unwaited):
        try:
            from libhook.story import serving  # release does without

            serving.serve(session.strict() if happening.operation.may_veto else session, happening, domain)
        except Refused:
            raise
        except Exception:
            if happening.operation.may_veto:
                from libhook.story import taking

                taking.record_failure(session, domain)
            raise


def _is_served(session: Session, happening: Event, domain: Domain, *, unwaited: bool = False) -> bool:
    """Whether libhook has anything to do for this guest before its end.

    An unwaited call always had a journal entry. If the entry is gone, the guest's end is recorded already, and no
    record of its start may follow.
    """
    return happening.operation.acts and (
        domain.uuid in session.state.uuids()
        or bool((session.with_along(domain).devices or domain.too_long) and not unwaited)
        or bool(session.served and session.served.asks and happening.operation.takes)
    )


def _entry(session: Session, domain: Domain) -> Held | None:
    """The guest's journal entry, if it can be read. The give-back says why not."""
    with suppress(LibhookError, OSError):
        return session.state.load(domain.uuid)
    return None


def _whose(state: State, call: Call, document: bytes, happening: Event) -> Domain:
    """Read the guest from the XML. At ``release`` mostly its UUID alone: its journal entry says what to give back.

    That saves importing lxml, and it works where lxml is broken.
    """
    operation = happening.operation
    uuid = prolog.uuid(document) if not operation.acts or (operation.gives_back and not call.dry_run) else None
    if uuid and not (operation.acts and _end_matters(state, uuid)):
        return Domain(happening.guest, uuid, "", ())
    if call.parse:
        return call.parse(document)
    from libhook.xml import domxml  # lxml takes twice a bare start of Python

    return domxml.parse(document)


def _end_matters(state: State, uuid: str) -> bool:
    """Whether ``release`` needs the devices in the XML.

    It does without a readable journal entry, and where a device was plugged in and that is not recorded yet.
    """
    try:
        held = state.load(uuid)
    except BadInput:
        return True
    return held is None or any(one.began != "start" and one.recorded == "nothing" for one in held.devices)


def plan(session: Session, happening: Event, domain: Domain) -> Plan:
    """Return the plan that the event would apply now."""
    from libhook.story import serving

    if happening.operation.name == "prepare":
        from libhook.handlers import record
        from libhook.story import survey, taking
        from libhook.story.foresight import foresee  # imported here, so that no start waits for it

        domain = session.with_along(domain)
        if refusal := taking.too_many(domain):
            failed = record.failed(domain, (device.key for device in domain.devices), session.config)
            return Plan((refusal, *failed))
        session = session._replace(changed=survey.changed(session, domain))
        return foresee(serving.consulted(session, happening, domain, None), happening, domain)
    found, told = Plan(()), _told(session, happening, domain)
    if happening.operation.gives_back or _is_served(session, happening, domain):
        session = session._replace(event=happening) if happening.operation.gives_back else session
        held = session.state.load(domain.uuid)
        domain = session.with_along(domain, held)
        if held and held.settled and happening.operation.adds and not happening.operation.may_veto:
            session = serving.as_settled(session, held)
        session = serving.consulted(session, happening, domain, held)
        found = session.plan(happening, domain, held, session.said if happening.operation.may_veto else ())
    late = () if happening.operation.may_veto else session.said
    return found._replace(verdicts=(*found.verdicts, *late, *told))  # in the order in which they happen


def _told(session: Session, happening: Event, domain: Domain) -> Sequence[Action]:
    """What is done at this operation once libhook is done with it. A fault here is in the way of no give-back."""
    if not kinds.are_told(session.config):
        return ()
    try:
        from libhook.story import passing  # few settings want that

        return passing.plan(session, happening, domain)
    except Exception as error:
        if happening.operation.may_veto:
            raise
        session.log.add("error", "not passed on", reason=fault(error))
        return ()


def _pass_on(session: Session, happening: Event, domain: Domain, told: Sequence[Action]) -> Answer:
    if not told:
        return Answer(0)
    from libhook.story import passing

    line, printed = passing.carry_out(session, happening, domain, told)
    return Answer(1, (line,)) if line else Answer(0, printed=printed)
