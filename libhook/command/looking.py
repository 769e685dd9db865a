# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands that only look: inspect, plan, devices and status. Each takes the machine and the options."""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from libhook.command import choosing, groups, guest, report, screen, views
from libhook.command import devices as survey_of
from libhook.command.names import with_names
from libhook.command.terminal import complain, show
from libhook.effects.log import Log
from libhook.effects.state import State
from libhook.errors import BadInput, named
from libhook.facts import event
from libhook.facts.address import PciAddress
from libhook.facts.domain import Domain, HostDevice, LibvirtsDevice
from libhook.facts.entry import Held
from libhook.facts.host import Claim
from libhook.facts.machine import Machine
from libhook.facts.plan import Fault, Plan, Refusal
from libhook.hotplug.parts import unfinished
from libhook.kinds import registry as kinds
from libhook.look import guests, sysfs
from libhook.naming.devices import Names
from libhook.naming.name import UNKNOWN, Name
from libhook.run import plan
from libhook.story import giveback, survey
from libhook.story.session import Session
from libhook.story.taking import refused
from libhook.xml import domxml


def inspect(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook inspect GUEST|XML``. The guest's configuration decides the form of the audit records shown."""
    found = guest.document(machine, options.guest, live=True)
    domain = found.domain(every_kind=True)
    session = Session.open(machine, Log(machine), os.getppid(), domain)
    if session.broken:
        complain([f"{session.broken.line}; the defaults are shown instead"])
    style = session.config.audit_record
    domain = session.with_extra(session.with_along(domain))
    pools = [one for one in domxml.on_networks(found.xml) if guests.is_pool(machine, one.network)]
    shown = (domain, style, _names_of_devices(machine), pools)
    if options.json:
        show(report.inspect_json(*shown))
    else:
        screen.lines(report.inspect_text(*shown))
    return 0


def show_plan(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook plan GUEST|XML``. If the event would be refused, say what ``virsh start`` would say; exit code 1."""
    is_start = options.event == "prepare"
    found = guest.document(machine, options.guest, live=not is_start)
    domain = found.domain()
    session = Session.open(machine, Log(machine), os.getppid(), domain).strict()._replace(document=found.xml)
    wanted = event.Event(domain.name, event.OPERATIONS[options.event], "-")
    planned = plan(session, wanted, domain)
    if planned.verdicts and wanted.operation.may_veto and (machine.root or os.geteuid() == 0):
        session.state.check()  # a start refuses a folder of libhook's that is not root's own
    refusals = [_line(planned.refusals, domain)] if planned.refusals else []
    if options.json:
        show(views.plan_json(planned, Names(machine).of_pci, running=_runs(session, domain)))
        return complain(refusals)
    has_begun = is_start or session.state.load(domain.uuid)
    why = "" if has_begun else f": libhook holds nothing for {named(domain.name)}"
    lines = list(planned.describe()) or [f"nothing to do at {options.event}{why}"]
    may_be_sure = machine.root or os.geteuid() == 0
    if is_start and may_be_sure and sys.stdout.isatty() and not planned.refusals:
        lines += _verdict(planned, domain, may_begin=found.is_defined and not _runs(session, domain))
    is_seen = screen.plan(list(with_names(lines, Names(machine).of_pci)))
    return len(refusals) if is_seen else complain(refusals)


def _verdict(planned: Plan, domain: Domain, *, may_begin: bool) -> list[str]:
    """Whether a start of which nothing is refused yet would be."""
    from libhook.facts.remedy import whom

    if any(isinstance(verdict, Fault) for verdict in planned.verdicts):
        return []
    if planned.conditions:
        return ["the start checks more, and may then be refused: see the lines that begin with refuse unless"]
    begin = f": virsh start {whom(domain)}" if may_begin else ""
    return [f"the start would not be refused{begin}"]


def _line(refusals: Sequence[Refusal], domain: Domain) -> str:
    """What ``virsh start`` would say."""
    from libhook.facts.remedy import whom

    return refused(refusals, f"libhook plan {whom(domain)}").line


def _runs(session: Session, domain: Domain) -> bool:
    from libhook.story.foresight import of_running

    held = None
    with suppress(BadInput):  # then libvirt's word counts
        held = session.state.load(domain.uuid)
    return of_running(session, domain, held) is not None


def devices(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook devices [WORD...]``. Exit code 1 if no device is what the words say."""
    if options.xml and not options.words:
        options.wrong("--xml needs a word: name a device, as in libhook devices 03:00.0 --xml")
    session = Session.of_command(machine, Log(machine), os.getppid())
    if not _may_read(machine.state):
        session = session._replace(state=_Unread(machine, kinds.read))
    if not (_may_read(machine.state) and _may_read(f"{machine.root}/etc/libvirt/qemu")):
        complain(["run it as root to see which guests have them"])
    host = survey.look(session, sysfs.addresses(machine))
    seen = survey_of.Seen(host, session.config, Names(machine).of_pci, _wanted_by(machine))
    found = survey_of.blocks(seen)
    if options.words:
        found = choosing.matching(found, options.words)
    if options.xml:
        return _xml(found, options.words)
    if options.json:
        show(survey_of.as_json(seen, found))
    else:
        screen.devices(found, options.words)
    return 0


def _xml(found: Sequence[groups.Block], words: Sequence[str]) -> int:
    """Print what gives a guest one group. All else goes to stderr, so that stdout is XML. Exit code 1 without any."""
    verdict, rows = choosing.one_group(found, words)
    show(groups.hostdevs(verdict.together))
    complain(groups.warnings(verdict, rows))
    if verdict.together and sys.stderr.isatty():
        complain(groups.after_xml(verdict, rows, words))
    return 0 if verdict.together else 1


class _Unread(State):
    """The state for whoever may not read it: nothing is known of a guest."""

    def names(self, folder: str) -> list[str]:  # noqa: ARG002 - as the others have it
        """None is known."""
        return []

    def claims(self, addresses: Iterable[PciAddress], known: Held | None = None) -> dict[PciAddress, Claim]:  # noqa: ARG002 - as above
        """None is known."""
        return {}


def _may_read(folder: str) -> bool:
    try:
        os.lstat(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return os.access(folder, os.R_OK | os.X_OK)


def _wanted_by(machine: Machine) -> Mapping[PciAddress, tuple[str, ...]]:
    """The guests that libvirt's files give each device, as far as those can be read."""
    from libhook.command.settings import known

    found = dict[PciAddress, list[str]]()
    for one in known(machine).guests:
        for address in one.addresses:
            found.setdefault(address, []).append(one.name)
    return {address: tuple(sorted(those)) for address, those in found.items()}


def status(machine: Machine, options: argparse.Namespace) -> int:
    """``libhook status``. Exit code 1 also if dead guests still have something."""
    session = Session.of_command(machine, Log(machine), os.getppid())
    found, broken = giveback.read_entries(session)
    left = {held.uuid: unfinished(session, held) for held, _ in found}
    held_now = dict.fromkeys(device.pci for held, _ in found for device in held.devices if device.pci)
    silent = sysfs.silent(machine, held_now.keys() - session.state.in_flight(), session.deadline)
    if options.json:
        show(views.status_json(found, left, silent, Names(machine).of_pci))
    elif found or not broken:
        lines = views.status_text(found, left, silent) or ["nothing is held"]
        screen.status(list(with_names(lines, Names(machine).of_pci)))
    return complain(broken) or int(any(alive is None and held.holds for held, alive in found))


def _names_of_devices(machine: Machine) -> report.NamesOf:
    """Return what tells the names of a guest's devices. Of a USB device its ids are known where the XML names them."""
    from libhook.naming.devices import Names

    known = Names(machine)

    def name_of(device: HostDevice | LibvirtsDevice) -> Name:
        if not isinstance(device, HostDevice) or device.kind not in ("pci", "usb"):
            return UNKNOWN
        return known.of_pci(device.address) if device.kind == "pci" else known.of_ids("usb", device.hint)

    return name_of
