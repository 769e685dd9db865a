# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plays events of a guest's life on a simulated host, and checks what must hold for whatever a handler sets."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from unittest import mock

from libhook.effects.log import Log
from libhook.facts.config import HANDLERS
from libhook.hotplug import plug, request, unplug
from libhook.simulation.faults import Fault
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hypervisor import Hypervisor
from libhook.simulation.snapshot import differences
from libhook.story import consult
from libhook.testing.host import Host
from libhook.testing.outcome import Outcome

Handlers = Iterable[str | Path] | Mapping[str, str]
"""The paths of handlers, or the text of each by its name."""


def play(
    event: str,
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
    """Play one event of libvirt's, as ``prepare`` or ``release``, and return all that it did.

    ``settings`` is the text of config.toml; None leaves it as it is. ``handlers`` are put on the host and enabled. If
    there are some and nothing was ever said about settings, all guests want them. ``extra`` is libvirt's fourth
    argument, which at ``release`` says how the guest ended. ``at`` is what the clock shows to handlers,
    ``2026-01-31T23:30``, in local time. ``faults`` hold for this event. With ``dry_run`` nothing is done, and the
    plan is made.
    """
    with _set_up(host, settings, handlers, at, faults):
        return host.event(guest, event, extra, dry_run=dry_run)


def attach(
    device: Assigned, guest: Guest, host: Host, settings: str | None = None, handlers: Handlers = (), *, at: str = ""
) -> list[str]:
    """Play ``libhook attach``: plug a device into the guest, and start it first if it does not run.

    Return the lines that are printed. LibhookError says why the device is not plugged in.
    """
    return _plugged("attach", device, guest, host, settings, handlers, at)


def detach(
    device: Assigned, guest: Guest, host: Host, settings: str | None = None, handlers: Handlers = (), *, at: str = ""
) -> list[str]:
    """Play ``libhook detach``: take a device away from a guest that runs. Return the lines that are printed."""
    return _plugged("detach", device, guest, host, settings, handlers, at)


def undo_restores(guest: Guest, host: Host, settings: str | None = None, handlers: Handlers = ()) -> None:
    """AssertionError unless the host is as before once the guest has ended.

    Three lives are played: the guest is shut down; QEMU does not start; the host fails before QEMU is run.
    """
    with _set_up(host, settings, handlers):
        for fails in ("", "qemu", "host"):
            before = host.whole
            error = host.libvirt.start(guest, fails).error
            if fails:
                assert "told to fail" in error, f"the guest was to fail in its {fails}, and says: {error or 'it runs'}"
            else:
                assert not error, f"the guest does not start: {error}"
                host.libvirt.stop(guest.name, "shutdown")
            what = f"after a life that failed in its {fails}" if fails else "after the guest's end"
            changes = differences(before, host.whole)
            assert not changes, "\n".join((f"the host is not as before {what}:", *changes))
            assert not host.leftovers, f"libhook still holds something {what}: {host.leftovers}"


def same_twice(
    event: str, guest: Guest, host: Host, settings: str | None = None, handlers: Handlers = (), *, at: str = ""
) -> Outcome:
    """Play an event after two dry runs of it. AssertionError unless all three have one plan, and dry runs do nothing.

    Return what the event did.
    """
    with _set_up(host, settings, handlers, at):
        before = host.whole
        first, second = (host.event(guest, event, dry_run=True) for _ in range(2))
        assert first.stderr == second.stderr, f"two dry runs differ: {_unlike(first.stderr, second.stderr)}"
        changes = differences(before, host.whole)
        assert not changes, "\n".join(("a dry run has changed the host:", *changes))
        done = host.event(guest, event)
    planned = first.stderr if done.code == 0 else done.plan
    assert done.plan == planned, f"what is done is not what was planned: {_unlike(planned, done.plan)}"
    return done


def _unlike(one: Iterable[str], other: Iterable[str]) -> str:
    return "; ".join(sorted({*one} ^ {*other}))


@contextmanager
def _set_up(
    host: Host, settings: str | None, handlers: Handlers, at: str = "", faults: Iterable[Fault] = ()
) -> Iterator[None]:
    """Put settings and handlers on the host. The clock and the faults are so for as long as the block lasts."""
    texts = handlers if isinstance(handlers, Mapping) else dict.fromkeys(map(str, handlers))
    names = [host.enable(name, text) for name, text in texts.items()]
    if settings is None and names and not Path(host.machine.config).exists():
        settings = "".join(f"[{HANDLERS}.{name}]\n" for name in names)
    if settings is not None:
        host.configure(settings)
    wrong = tuple(faults)
    with ExitStack() as stack:
        if at:
            seconds = datetime.fromisoformat(at).timestamp()
            stack.enter_context(mock.patch.object(consult, "now", return_value=seconds))
        if wrong:
            host.fail(*wrong)
            stack.callback(host.fail)
        yield


def _plugged(
    verb: str, device: Assigned, guest: Guest, host: Host, settings: str | None, handlers: Handlers, at: str
) -> list[str]:
    with _set_up(host, settings, handlers, at):
        if guest.name not in {one.name for one in host.libvirt.guests}:
            error = host.libvirt.start(guest).error
            assert not error, f"the guest does not start: {error}"
        document = device.xml(len(guest.devices)).strip().encode()
        wanted = request.Request(guest.name, document)
        with host.waiting(), Log(host.machine, operation=verb) as log:
            do = plug.attach if verb == "attach" else unplug.detach
            return list(do(host.machine, log, Hypervisor(host.libvirt), wanted))
