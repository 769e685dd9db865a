# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which audit records an event must send.

Each device gets a record that says whether the guest got it, and another when the guest's use of it ends.
"""

from __future__ import annotations

from libhook.errors import named
from libhook.facts.config import Config
from libhook.facts.domain import USB_UNRESOLVED
from libhook.facts.entry import Held
from libhook.facts.host import Trail
from libhook.facts.plan import Record, Refusal, Verdict
from libhook.facts.situation import Situation
from libhook.handlers import record
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_RAN = ("shutdown", "destroyed", "crashed", "saved", "migrated", "from snapshot")
"""Shutoff reasons of a guest that ran (domain_conf.c:1182). Other guests have failed, daemon, unknown or no reason."""


def required(situation: Situation) -> Iterator[Verdict]:
    """Refuse every device while the audit trail cannot be written.

    Asked where the configuration requires the trail, at ``prepare``, at ``start`` and at hot-plug. ``start`` asks again
    because a record that was sent may not have been written down. One gap remains: the trail may fail between the
    answer and the record.
    """
    trail, held = situation.trail, situation.held
    complaint = trail_problem(trail)
    if not complaint and trail and held and situation.event.operation.name == "start" and _lost(trail.lost, held.lost):
        complaint = (
            "records were lost since the guest was prepared",
            "have it hold more at a time: auditctl -s shows the backlog_limit, and auditctl -b sets it",
        )
    if not complaint:
        return
    reason, remedy = complaint
    for device in situation.domain.devices:
        yield Refusal(device.key, f"{named(device.address)}: the audit trail is required, but {reason}", remedy)


def _lost(now: int, before: int) -> bool:
    """Whether records were lost since. A lower count means that the count was reset (auditctl --reset-lost)."""
    return now > (before if now >= before else 0)


def trail_problem(trail: Trail | None) -> tuple[str, str] | None:
    """Why a record sent now would not be written down, and what would help. None where it would be written."""
    if trail is None:
        return (
            "the kernel does not answer questions about it",
            "start the guest again; libhook doctor asks it, too (it needs CAP_AUDIT_CONTROL and a kernel with audit)",
        )
    if not trail.may_send:
        return "libhook cannot write to it", "run install.sh again, for python3-audit; libhook needs CAP_AUDIT_WRITE"
    if not trail.enabled:
        return "it is off in the kernel", "with auditd installed, to turn it on, run: auditctl -e 1"
    if not trail.daemon:
        return "no auditd runs", "with auditd installed, start it; under systemd, run: systemctl start auditd"
    if trail.stopped:
        return f"auditd (pid {trail.daemon}) is stopped", f"to let it go on, run: kill -CONT {trail.daemon}"
    return None


def started(situation: Situation) -> Iterator[Verdict]:
    """Record once, with success, that the guest has its devices.

    A device without an address was never resolved, so it gets no record.
    """
    held = situation.held
    recorded = {device.key for device in held.devices if device.recorded == "success"} if held else set()
    for device in situation.domain.devices:
        if device.key not in recorded and device.resolved and not device.missing and device.audited:
            yield record.of(situation.domain, device, "start", True, situation.config)


def reconnect(situation: Situation) -> Iterator[Verdict]:
    """The records that are still missing: ``started`` could not send them because libvirtd was gone.

    Only devices of the journal entry get one. A device that is not in the entry was plugged in later: it did not come
    with the guest's start.
    """
    held = situation.held
    present = {device.key for device in situation.domain.devices}
    for device in held.devices if held else ():
        if held and device.audited and device.recorded == "nothing" and device.key in present:
            yield record.of(held, device, device.began, True, situation.config)


def release(situation: Situation) -> Iterator[Verdict]:
    """The records at the guest's end.

    A device that was handed over gets ``stop``. A device without any record so far was never handed over, and gets
    failed. A guest that is known to have run is different: its record at ``started`` was lost, and is sent now. A
    device whose plugging in was not recorded counts as the guest's if the XML of the guest's end has it.
    """
    held = situation.held
    if held is None:
        if situation.event.extra in _RAN:
            from libhook.handlers import vfio  # no other end needs it

            for one in (one for one, _ in vfio.left_behind(situation) if one.audited):
                yield record.of(situation.domain, one, "stop", True, situation.config)
        return
    ran = held.phase == "started" or (held.phase == "starting" and situation.event.extra in _RAN)
    at_its_end = {device.key for device in situation.domain.devices}
    for device in held.devices:
        if not device.audited:
            continue
        had = ran if device.began == "start" else device.key in at_its_end
        if had and device.recorded == "nothing" and device.address != USB_UNRESOLVED:
            yield record.of(held, device, device.began, True, situation.config)
            yield record.of(held, device, "stop", True, situation.config)
        elif device.recorded in ("success", "unreturned"):
            yield record.of(held, device, "stop", True, situation.config)
        elif device.recorded == "nothing":
            yield record.of(held, device, device.began, False, situation.config)


def pending(held: Held, config: Config) -> Iterator[Record]:
    """The records that the journal entry says are about to be sent."""
    for device in held.devices:
        match device.pending:
            case "begin":
                yield record.of(held, device, device.began, True, config)
            case "again" | "kept" as how:
                yield record.of(held, device, "detach", how == "again", config)


def attach(situation: Situation) -> Iterator[Verdict]:
    """Records of the devices that are plugged in.

    A USB device named by vendor and product has an address once libvirt has found it.
    """
    for device in situation.domain.devices:
        if device.resolved and not device.missing:
            yield record.of(situation.domain, device, "attach", True, situation.config)


def detach(situation: Situation) -> Iterator[Verdict]:
    """Records of the devices that are plugged out."""
    for device in situation.domain.devices:
        yield record.of(situation.domain, device, "detach", True, situation.config)
