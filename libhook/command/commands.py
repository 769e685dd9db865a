# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands of ``libhook``. Each is a function that takes the machine and the options, and returns an exit code."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec

from libhook.children.child import Deadline
from libhook.command import screen
from libhook.command.names import with_names
from libhook.command.terminal import complain, read, show
from libhook.effects.log import Log
from libhook.errors import BadInput, DeadlineExpired, LibhookError, named, unanswered
from libhook.facts.domain import Domain
from libhook.facts.entry import Held
from libhook.facts.machine import Machine
from libhook.hotplug import plug, unplug
from libhook.hotplug.halfplugged import preview_pending, preview_settling, settle_abandoned
from libhook.hotplug.hypervisor import MISSING, Hypervisor
from libhook.hotplug.interrupts import Interrupts
from libhook.hotplug.notify import ServiceManager
from libhook.hotplug.parts import unfinished
from libhook.hotplug.request import Request
from libhook.hotplug.watch import Watcher
from libhook.hotplug.watching import Connection
from libhook.look import processes
from libhook.naming.devices import Names
from libhook.story import giveback
from libhook.story.orphans import settle_orphans
from libhook.story.session import Session, make_state, state_of
from libhook.story.tidy import tidy


def recover(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook recover``. Exit code 1 if something could not be given back, or a journal entry is broken."""
    names = Names(machine).of_pci
    with Log(machine, operation="recover") as log:
        session = Session.of_command(machine, log, os.getppid())
        if options.give_up:
            return _give_up(session, options.give_up, dry_run=options.dry_run)
        found, broken = giveback.read_entries(session)
        code = complain(broken)
        for held, alive in found:
            own = session.with_settings_of(held).with_time()
            try:
                said, failed = _recovered(own, held, alive, dry_run=options.dry_run)
            except (LibhookError, OSError) as error:  # it is of this guest alone
                line = (error if isinstance(error, LibhookError) else unanswered(error)).line
                does = "nobody can see what would be done" if options.dry_run else "not given back"
                said, failed = [], [f"{named(held.name)}: {does}: {line}"]
            show(list(with_names(said, names)))
            code = complain(failed) or code
        session = Session.open(machine, log, os.getppid(), Domain("", "", "", ()))  # what holds for all
        orphans = list(settle_orphans(session.work(""), dry_run=options.dry_run))
        show(list(with_names([line for line, wrong in orphans if not wrong], names)))
        code = complain([line for line, wrong in orphans if wrong]) or code
        if not (found or broken or orphans):
            show(["nothing is held"])
        if not options.dry_run:
            tidy(session.state)
    return code


def _recovered(session: Session, held: Held, alive: str | None, *, dry_run: bool) -> tuple[list[str], list[str]]:
    """Give back what one guest's entry holds, or say what would be done. What to show, and what to complain of."""
    name = named(held.name)
    if alive and unfinished(session, held):
        if dry_run:
            head = f"{name}: left alone, because {alive}; this unfinished hot-plug would be ended:"
            return [head, *(f"  {line}" for line in preview_settling(session, held))], []
        if reason := settle_abandoned(session, held):
            return [], [f"{name}: the unfinished hot-plug cannot be ended: {reason}"]
        return [f"{name}: the unfinished hot-plug is ended"], []
    if alive:
        return [f"{name}: left alone, because {alive}"], []
    if dry_run:
        acting, in_flight = held.actions_by_key(), session.state.in_flight()
        hanging = any(one.pci in in_flight for one in held.devices if one.key in acting)
        head = f"{name}: would be given back{', except what hangs' if hanging else ''}"
        return [head, *(f"  {line}" for line in (*preview_pending(held), *session.plan_release(held).describe()))], []
    if reason := giveback.settle(session, held.uuid):
        return [], [f"{name}: not given back: {reason}{giveback.way_out(session, held.uuid)}"]
    return [f"{name}: given back"], []


def _give_up(session: Session, things: Sequence[str], *, dry_run: bool) -> int:
    """Exit code 1 if something was not given up."""
    from libhook.command import givingup

    said = list(givingup.give_up(session, things, dry_run=dry_run))
    show([line for line, wrong in said if not wrong])
    code = complain([line for line, wrong in said if wrong])
    if not dry_run:
        tidy(session.state)
    return code


def accept(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook accept GUEST``."""
    from libhook.command import accept as work

    note, changes = work.accept(machine, options.guest, dry_run=options.dry_run)
    does = "would be accepted" if options.dry_run else "accepted"
    lines = [f"{one.line}: {does}" for one in changes]
    show(lines or [f"{named(note.name)}: its addresses hold what it last had there"])
    return 0


def config(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook config [GUEST]``. Exit code 1 if the settings have errors."""
    from libhook.command import settings

    shown = settings.overview(machine) if options.guest is None else settings.of_guest(machine, options.guest)
    if options.json:
        show(shown.data)
    else:
        screen.lines(shown.lines)
    return complain(shown.errors)


def handlers(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook handlers [enable|disable NAME]``."""
    from libhook.command import handlers as work

    if options.verb is None:
        rows = work.table(machine)
        if options.json:
            show({"handlers": [row._asdict() for row in rows]})
        else:
            screen.lines([row.line for row in rows] or ["there are no handlers by others"], pastes=True)
        return 0
    if options.name is None:
        raise BadInput(f"libhook handlers {options.verb} needs a name", "libhook handlers shows the names")
    lines = (work.enable if options.verb == "enable" else work.disable)(machine, options.name)
    show({"done": list(lines)} if options.json else lines)
    return 0


def doctor(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook doctor``. Exit code 1 if something keeps libhook from working."""
    from libhook.command.doctor import examine

    if os.geteuid() != 0 and not machine.root:
        raise LibhookError("only root can run the hook and read the audit trail", "run it as root")
    findings = examine(Session.of_command(machine, Log(machine), os.getppid()))
    if options.json:
        show({"findings": [finding._asdict() for finding in findings]})
    else:
        screen.doctor(list(with_names((finding.line for finding in findings), Names(machine).of_pci)))
    failed = "; ".join(finding.what for finding in findings if finding.level == "fail")
    return complain([f"libhook does not work here: {failed}"] if failed else [])


def demo(_machine: Machine, _options: argparse.Namespace) -> int:
    """``libhook demo``."""
    from libhook.simulation.demo import play_demo

    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    launcher = os.path.join(top, "hooks", "qemu")
    if reason := play_demo(launcher, sys.stdout):
        raise LibhookError(f"the demo failed: {reason}", "run install.sh again; if that does not help, report it")
    return 0


def attach(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook attach DOMAIN DEVICE-XML``."""
    return _plug(machine, options, plug.attach)


def detach(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook detach DOMAIN DEVICE-XML``. Exit code 1 if the guest keeps the device, or it did not come back."""
    return _plug(machine, options, unplug.detach)


def _plug(machine: Machine, options: argparse.Namespace, work: Callable[..., Iterator[str]]) -> int:
    document = read(options.xml, "a file with a device's XML")
    request = Request(options.guest, document, options.live, options.config, options.timeout, options.dry_run)
    state = state_of(machine)
    with Interrupts() as interrupts, Log(machine, operation=work.__name__) as log:
        hypervisor = Hypervisor(options.connect, interrupts, state.mark_of(processes.own(machine)))
        lines = work(machine, log, hypervisor, request)
        for line in with_names(lines, Names(machine).of_pci) if options.dry_run else lines:
            show([line])
    return 0


def watch(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook watch``. Runs until SIGTERM or Ctrl-C."""
    if os.geteuid() != 0:
        raise LibhookError("only root may write the audit trail and the devices", "run it as root")
    if find_spec("libvirt") is None:
        raise MISSING
    state = make_state(machine)
    connection = Connection(options.connect, ServiceManager(os.environ))
    tell = show if sys.stdout.isatty() else (lambda _: None)
    try:
        with state.locked(["watch"], Deadline.after(1)):
            tell([f"watching {options.connect} until Ctrl-C; events are shown here and in the journal"])
            connection.run(Watcher(machine, connection.look, connection.alive, tell))
    except DeadlineExpired:
        hint = "one is enough; under systemd, run: systemctl status libhook-watch"
        raise LibhookError("another libhook watch is already running", hint) from None
    return 0
