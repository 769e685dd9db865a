# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plays events of a guest's life on a simulated host, and checks what must hold for whatever a handler sets."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Literal, get_args
from unittest import mock

from libhook.effects.log import Log
from libhook.errors import LibhookError
from libhook.hotplug import plug, request, unplug
from libhook.simulation import faults as simulated
from libhook.simulation import store
from libhook.simulation.faults import Fault
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hypervisor import Hypervisor
from libhook.simulation.snapshot import differences
from libhook.story import consult
from libhook.testing.host import Host
from libhook.testing.outcome import Outcome

Event = Literal["prepare", "start", "started", "stopped", "release", "reconnect", "migrate", "restore"]
Handlers = Sequence[str | Path] | Mapping[str, str]
"""The paths of handlers, or the text of each by its name."""
_OF_A_START = ("prepare", "start", "started", "stopped", "release")
_ONE_AT_A_TIME = RLock()
"""The clock and the umask are the process's."""
_MOST_TOLD = 20


def play(
    event: Event,
    guest: Guest,
    host: Host,
    settings: str | None = None,
    handlers: Handlers = (),
    *,
    extra: str = "-",
    at: str = "",
    faults: Iterable[Fault] = (),
    dry_run: bool = False,
) -> Outcome:
    """Play one event of libvirt's, and return all that it did.

    ``settings`` is the text of config.toml. ``handlers`` are put on the host and enabled. Both stay there. Until a test
    has said what the settings are, all guests want the handlers that were given last. ``extra`` is libvirt's fourth
    argument, which at ``release`` says how the guest ended. ``at`` is what the clock shows to handlers,
    ``2026-01-31T23:30``, in local time. ``faults`` hold for this event; AssertionError if no call was as one of them
    says. With ``dry_run`` nothing is done, and the plan is made. ValueError for what is no event.
    """
    _expect_event(event)
    if event in _OF_A_START and guest.name in {one.name for one in host.libvirt.guests}:
        raise ValueError(f"{guest.name} runs with a QEMU: end it by Host.stop")
    with _set_up(host, settings, handlers, at, faults):
        return host.event(guest, event, extra, dry_run=dry_run)


def attach(
    device: Assigned | str,
    guest: Guest,
    host: Host,
    settings: str | None = None,
    handlers: Handlers = (),
    *,
    at: str = "",
    faults: Iterable[Fault] = (),
    libvirt: str = "",
) -> Outcome:
    """Play ``libhook attach``: plug a device into a guest. One that does not run is started by Host.start before.

    ``libvirt`` says how libvirt itself fails: "refuses", or "monitor" for QEMU. Code and stderr are the command's.
    """
    _start(guest, host)
    with _set_up(host, settings, handlers, at, faults):
        return _plugged("attach", device, guest, host, Hypervisor(host.libvirt, attach=libvirt))


def detach(
    device: Assigned | str,
    guest: Guest,
    host: Host,
    settings: str | None = None,
    handlers: Handlers = (),
    *,
    at: str = "",
    faults: Iterable[Fault] = (),
    libvirt: str = "gone",
) -> Outcome:
    """Play ``libhook detach``: take a device away from a guest. The rest is as for ``attach``.

    ``libvirt`` says what comes of it: "gone", "kept" by the guest, or libvirt "refuses".
    """
    _start(guest, host)
    with _set_up(host, settings, handlers, at, faults):
        return _plugged("detach", device, guest, host, Hypervisor(host.libvirt, detach=libvirt))


def undo_restores(
    guest: Guest, host: Host, settings: str | None = None, handlers: Handlers = (), *, at: str = ""
) -> None:
    """AssertionError unless the host is as before once the guest has ended, and nothing is said to have failed.

    Three lives are played: the guest is shut down; QEMU does not start; the host fails before QEMU is run.
    """
    with _set_up(host, settings, handlers, at):
        for fails in ("", "qemu", "host"):
            before, begun = host.whole, len(host.outcomes)
            error = host.libvirt.start(guest, fails).error
            if fails:
                assert "told to fail" in error, f"the guest was to fail in its {fails}, and says: {error or 'it runs'}"
            else:
                assert not error, f"the guest does not start: {error}"
                host.stop(guest)
            what = f"after a life that failed in its {fails}" if fails else "after the guest's end"
            changes = differences(before, host.whole)
            assert not changes, "\n".join((f"the host is not as before {what}:", *changes))
            assert not host.leftovers, f"libhook still holds something {what}: {host.leftovers}"
            life = host.outcomes[begun:]
            failed = [f"{one.operation}: {entry}" for one in life for entry in one.errors]
            assert not failed, "\n".join((f"the log has errors {what}:", *failed))
            _expect_asked(life, handlers)


def same_twice(
    event: Event, guest: Guest, host: Host, settings: str | None = None, handlers: Handlers = (), *, at: str = ""
) -> Outcome:
    """Play an event after two dry runs of it. AssertionError unless all three have one plan, and dry runs do nothing.

    If a start is refused, both dry runs must say so. Return what the event did.
    """
    _expect_event(event)
    with _set_up(host, settings, handlers, at):
        before = host.whole
        first, second = (host.event(guest, event, dry_run=True) for _ in range(2))
        _expect_alike("two dry runs differ", first.plan, second.plan)
        changes = differences(before, host.whole)
        assert not changes, "\n".join(("a dry run has changed the host:", *changes))
        done = host.event(guest, event)
    planned = [line for line in first.plan if line.startswith("refuse: ")]
    if done.refusals and planned:
        return done
    assert not planned, f"a dry run refuses, and the event does not: {planned}"
    assert not done.refusals, f"the event is refused, and no dry run says so: {done.refusals}"
    _expect_alike("what is done is not what was planned", first.plan, done.plan)
    _expect_asked([done], handlers)
    return done


def _expect_event(event: str) -> None:
    if event in ("attach", "detach"):
        raise ValueError(f"{event} is no event of libvirt's: call {event}()")
    if event not in get_args(Event):
        raise ValueError(f"there is no event {event!r}: it is one of {', '.join(get_args(Event))}")


def _expect_alike(what: str, one: Sequence[str], other: Sequence[str]) -> None:
    """Plans are alike. How long they may take stands in the middle where handlers are asked last."""
    had, has = (sorted(lines, key=lambda line: line.startswith("may take up to ")) for lines in (one, other))
    unlike = difflib.unified_diff(had, has, lineterm="", n=1)
    assert had == has, "\n".join((f"{what}:", *unlike))


def _expect_asked(outcomes: Sequence[Outcome], handlers: Handlers) -> None:
    asked = {name for one in outcomes for name in one.asked}
    given = {Path(name).stem for name in handlers}
    assert given <= asked or not given, f"nobody has asked {', '.join(sorted(given - asked))}: do the settings want it?"


@contextmanager
def _set_up(
    host: Host, settings: str | None, handlers: Handlers, at: str = "", faults: Iterable[Fault] = ()
) -> Iterator[None]:
    """Put settings and handlers on the host. The clock and the faults are so for as long as the block lasts."""
    if isinstance(handlers, str | Path):
        raise TypeError("handlers is a list of paths, or a dict of names and texts")
    with _ONE_AT_A_TIME:
        texts = handlers if isinstance(handlers, Mapping) else dict.fromkeys(map(str, handlers))
        names = host.enable_all(texts)
        if settings is not None:
            host.configure(settings)
        elif names:
            host.want(names)
        now = mock.Mock(return_value=datetime.fromisoformat(at).timestamp()) if at else consult.now
        with mock.patch.object(consult, "now", now), _failing(host, tuple(faults)):
            yield


@contextmanager
def _failing(host: Host, faults: tuple[Fault, ...]) -> Iterator[None]:
    if not faults:
        yield
        return
    before, calls = host.faults, f"{host.root}/var/log/calls.jsonl"
    known = len(store.lines(calls))
    host.fail(*faults, *before)
    unmet = []
    try:
        yield
        unmet = [call for call in simulated.unmet(host.root) if call in {fault.call for fault in faults}]
    finally:
        host.fail(*before)
    made = [one["call"] for one in store.lines(calls)[known:]]
    assert not unmet, "\n".join((f"no call was as {', '.join(unmet)} says; the last were:", *made[-_MOST_TOLD:]))


def _start(guest: Guest, host: Host) -> None:
    if guest.document:
        raise ValueError("a guest that is made of a document cannot be plugged into: its XML is always the same")
    if guest.name not in {one.name for one in host.libvirt.guests}:
        if guest.uuid in host.state.uuids():
            raise ValueError(
                f"play has begun the life of {guest.name} without a QEMU: end it by play, or use Host.start"
            )
        host.start(guest)


def _plugged(verb: str, device: Assigned | str, guest: Guest, host: Host, hypervisor: Hypervisor) -> Outcome:
    one = Assigned(device) if isinstance(device, str) else device
    wanted = request.Request(guest.name, one.xml(len(guest.devices)).strip().encode())

    def do() -> tuple[int, str, Iterable[str]]:
        lines = list[str]()
        with host.waiting(), Log(host.machine, operation=verb) as log:
            try:
                lines.extend(
                    (plug.attach if verb == "attach" else unplug.detach)(host.machine, log, hypervisor, wanted)
                )
            except LibhookError as error:
                return 1, "".join(f"{line}\n" for line in lines), (error.line,)
        return 0, "".join(f"{line}\n" for line in lines), ()

    return host.observed(verb, do)
