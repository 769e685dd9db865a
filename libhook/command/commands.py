# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands of ``libhook``. Each is a function that takes the machine and the options, and returns an exit code."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

from libhook import __version__
from libhook.children.child import Deadline
from libhook.command import report, views
from libhook.command.terminal import Help, complain, read, seconds, show
from libhook.effects.log import Log
from libhook.errors import BadInput, DeadlineExpired, LibhookError
from libhook.facts import event
from libhook.facts.address import PciAddress
from libhook.facts.domain import Domain
from libhook.facts.machine import Machine
from libhook.history import options as history_options
from libhook.hotplug import plug, unplug
from libhook.hotplug.halfplugged import preview_settling, settle_abandoned
from libhook.hotplug.hypervisor import DEFAULT_URI, Hypervisor
from libhook.hotplug.interrupts import Interrupts
from libhook.hotplug.notify import ServiceManager
from libhook.hotplug.parts import abandoned
from libhook.hotplug.request import Request
from libhook.hotplug.watch import Watcher
from libhook.hotplug.watching import Connection
from libhook.importing import options as importing_options
from libhook.look import processes
from libhook.run import plan
from libhook.story import giveback, survey
from libhook.story.orphans import settle_orphans
from libhook.story.session import Session, make_state, state_of
from libhook.story.taking import in_one_line
from libhook.story.tidy import tidy
from libhook.xml import domxml

_XML = "a file with a domain's XML"
Command = Callable[[Machine, argparse.Namespace], int]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="libhook",
        description="Hands PCI devices to libvirt's guests, takes them back, and records both truthfully.",
        epilog="Exit codes: 0 done; 1 refused or failed, the reason on stderr; 2 usage.",
        formatter_class=Help,
    )
    top.add_argument("--version", action="version", version=f"libhook {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Command, text: str, *, as_json: bool = True) -> argparse.ArgumentParser:
        sentence = text[0].upper() + text[1:] + "."
        added = commands.add_parser(name, help=text, description=sentence, formatter_class=Help)
        if as_json:
            added.add_argument("--json", action="store_true", help="print JSON, and nothing else, to stdout")
        added.set_defaults(command=command)
        return added

    xml = "domain XML: a file, or - for stdin"
    add("inspect", inspect, "a guest's host devices, and the audit record of each").add_argument(
        "xml", metavar="XML", help=xml
    )
    planned = add("plan", show_plan, "what an event would write and record on this host now; changes nothing")
    planned.epilog = "For a running guest it shows the next start. Exit code 1 if a start would be refused."
    planned.add_argument("xml", metavar="XML", help=xml)
    acting = [name for name, operation in event.OPERATIONS.items() if operation.acts]
    planned.add_argument(
        "--event", metavar="OPERATION", choices=acting, default="prepare", help=f"one of {', '.join(acting)}; the first"
        " is the default",
    )  # fmt: skip
    add("devices", devices, "the host's IOMMU groups: device, driver, what uses it, which guest has it")
    add("status", status, "what is held for which guest, and what recover would do")
    recovering = add("recover", recover, "give back what dead processes left", as_json=False)
    recovering.add_argument("--dry-run", action="store_true", help="only print what would be done")
    for verb, command, text in (
        ("attach", attach, "plug a host device into a guest that runs, with a start's checks and audit record"),
        ("detach", detach, "unplug a host device, wait for the guest to let go, and give it back to the host"),
    ):
        plugging = add(verb, command, text, as_json=False)
        plugging.add_argument("guest", metavar="DOMAIN", help="the guest's name, UUID or number")
        plugging.add_argument("xml", metavar="DEVICE-XML", help="the device's XML: a file, or - for stdin")
        plugging.add_argument("--live", action="store_true", help="change the guest that runs (the default if it runs)")
        plugging.add_argument("--config", action="store_true", help="change its configuration, from the next start on")
        plugging.add_argument(
            "--timeout",
            type=seconds,
            default=30.0,
            metavar="SECONDS",
            help="how long libvirt and the guest may take to answer (default: 30)",
        )
        plugging.add_argument("--dry-run", action="store_true", help="only print what would be done")
        plugging.add_argument("-c", "--connect", default=DEFAULT_URI, metavar="URI", help=f"default: {DEFAULT_URI}")
    watching = add(
        "watch", watch, "record what other clients plug in and out; the service libhook-watch", as_json=False
    )
    watching.add_argument("-c", "--connect", default=DEFAULT_URI, metavar="URI", help=f"default: {DEFAULT_URI}")
    history_options.add(
        add("history", history, "which guest had which device when, from the audit trail", as_json=False)
    )
    importing_options.add(add("import", import_scripts, "settings from old hook scripts, which run in a sandbox"))
    configuring = add(
        "config", config, "the settings, where each comes from, and what is wrong with them; changes nothing"
    )
    configuring.epilog = "Exit code 1 if there are errors."
    configuring.add_argument(
        "guest", metavar="GUEST", nargs="?", help="a guest's name or UUID: what holds for it, merged from all sections"
    )
    handling = add("handlers", handlers, "handlers by others: which are enabled, for whom; enable or disable one")
    handling.add_argument(
        "verb", metavar="enable|disable", nargs="?", choices=("enable", "disable"), help="what to do; none: show all"
    )
    handling.add_argument("name", metavar="NAME", nargs="?", help="a file in /etc/libhook/handlers, without .py")
    add("doctor", doctor, "whether libhook works here, and what to do where it does not; changes nothing")
    add("demo", demo, "one guest's life on a simulated host; changes nothing here", as_json=False)
    hook = commands.add_parser(
        "hook",
        help="what libvirtd runs: NAME OPERATION SUBOPERATION EXTRA, XML on stdin",
        usage=f"libhook hook NAME OPERATION\n{'':15}SUBOPERATION EXTRA <XML",
        description="One event, as libvirtd calls its hook. With LIBHOOK_DRY_RUN=1 in the environment it says what it"
        " would do, and does nothing.",
        formatter_class=Help,
    )
    hook.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return top


def inspect(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook inspect XML``. The guest's configuration decides the form of the audit records shown."""
    domain = _read_domain(read(options.xml, _XML), every_kind=True)
    session = Session.open(machine, Log(machine), os.getppid(), domain)
    if session.broken:
        complain([f"{session.broken.line}; the defaults are shown instead"])
    style = session.config.audit_record
    domain = session.with_extra(session.with_along(domain))
    show(report.inspect_json(domain, style) if options.json else report.inspect_text(domain, style))
    return 0


def show_plan(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook plan XML``. If the event would be refused, say what ``virsh start`` would say; exit code 1."""
    document = read(options.xml, _XML)
    domain = _read_domain(document)
    session = Session.open(machine, Log(machine), os.getppid(), domain).strict()._replace(document=document)
    wanted = event.Event(domain.name, event.OPERATIONS[options.event], "-")
    found = plan(session, wanted, domain)
    if options.json:
        show(views.plan_json(found))
    else:
        has_begun = options.event == "prepare" or session.state.load(domain.uuid)
        why = "" if has_begun else f": libhook holds nothing for {domain.name}"
        show(list(found.describe()) or [f"nothing to do at {options.event}{why}"])
    return complain([in_one_line(found.refusals)] if found.refusals else [])


def devices(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook devices``."""
    folder = f"{machine.sys}/bus/pci/devices"
    addresses = []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        with suppress(BadInput):
            addresses.append(PciAddress.parse(name))
    session = Session.open(machine, Log(machine), os.getppid())
    host = survey.look(session, sorted(addresses))
    if options.json:
        show(views.devices_json(host))
    else:
        show(views.devices_text(host) or ["no PCI devices"])
    return 0


def status(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook status``."""
    session = Session.open(machine, Log(machine), os.getppid())
    found, broken = giveback.read_entries(session)
    left = {held.uuid: [device.key for device in abandoned(session, held)] for held, _ in found}
    if options.json:
        show(views.status_json(found, left))
    elif found or not broken:
        show(views.status_text(found, left) or ["nothing is held"])
    return complain(broken)


def recover(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook recover``. Exit code 1 if something could not be given back, or a journal entry is broken."""
    with Log(machine, operation="recover") as log:
        session = Session.open(machine, log, os.getppid())
        found, broken = giveback.read_entries(session)
        code = complain(broken)
        for held, alive in found:
            name = held.name
            session = session.with_settings_of(held)
            session = session._replace(deadline=Deadline.after(session.config.write_deadline))
            if alive and abandoned(session, held):
                if options.dry_run:
                    head = f"{name}: left alone, because {alive}; this unfinished hot-plug would be settled:"
                    show([head, *(f"  {line}" for line in preview_settling(session, held))])
                elif reason := settle_abandoned(session, held):
                    code = complain([f"{name}: the unfinished hot-plug is not settled: {reason}"])
                else:
                    show([f"{name}: the unfinished hot-plug is settled"])
            elif alive:
                show([f"{name}: left alone, because {alive}"])
            elif options.dry_run:
                hanging = any(one.pci in session.state.in_flight() for one in held.devices if held.action(one.key))
                head = f"{name}: would be given back{', except what hangs' if hanging else ''}"
                show([head, *(f"  {line}" for line in session.plan_release(held).describe())])
            elif reason := giveback.settle(session, held.uuid):
                code = complain([f"{name}: not given back: {reason}"])
            else:
                show([f"{name}: given back"])
        session = Session.open(machine, log, os.getppid(), Domain("", "", "", ()))  # what holds for all
        orphans = list(settle_orphans(session.work(""), dry_run=options.dry_run))
        show([line for line, wrong in orphans if not wrong])
        code = complain([line for line, wrong in orphans if wrong]) or code
        if not (found or broken or orphans):
            show(["nothing is held"])
        if not options.dry_run:
            tidy(session.state)
    return code


def history(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook history``."""
    from libhook.history.command import run

    return run(machine.root, options)


def import_scripts(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook import PATH...``."""
    from libhook.importing.command import run

    return run(machine, options)


def config(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook config [GUEST]``. Exit code 1 if the settings have errors."""
    from libhook.command import settings

    shown = settings.overview(machine) if options.guest is None else settings.of_guest(machine, options.guest)
    show(shown.data if options.json else shown.lines)
    return complain(shown.errors)


def handlers(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook handlers [enable|disable NAME]``."""
    from libhook.command import handlers as work

    if options.verb is None:
        rows = work.table(machine)
        text = [row.line for row in rows] or ["there are no handlers by others"]
        show({"handlers": [row._asdict() for row in rows]} if options.json else text)
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
    findings = examine(Session.open(machine, Log(machine), os.getppid()))
    lines = [finding.line for finding in findings]
    show({"findings": [finding._asdict() for finding in findings]} if options.json else lines)
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
        for line in work(machine, log, hypervisor, request):
            show([line])
    return 0


def watch(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook watch``. Runs until SIGTERM or Ctrl-C."""
    if os.geteuid() != 0:
        raise LibhookError("only root may write the audit trail and the devices", "run it as root")
    state = make_state(machine)
    connection = Connection(options.connect, ServiceManager(os.environ))
    tell = show if sys.stdout.isatty() else (lambda _: None)
    try:
        with state.locked(["watch"], Deadline.after(0)):
            tell([f"watching {options.connect} until Ctrl-C; events are shown here and in the journal"])
            connection.run(Watcher(machine, connection.look, connection.alive, tell))
    except DeadlineExpired:
        raise LibhookError("another libhook watch is already running", "systemctl status libhook-watch") from None
    return 0


def _read_domain(document: bytes, *, every_kind: bool = False) -> Domain:
    """Read the guest from the XML. Say on stderr what was passed over."""
    domain = domxml.parse(document, every_kind=every_kind)
    complain([f"skipped: {warning}" for warning in domain.warnings])
    return domain
