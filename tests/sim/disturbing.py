# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a run is disturbed at its Nth point: it is killed there, or what it asks for from there on is refused.

A point is before or after any one of its effects: what it does that outlives the process. Nothing in libhook knows of
this. In the process that is to be killed the calls of ``os`` and ``fcntl`` through which it changes anything, and the
sending of records, are counted. What its children write, the simulated kernel counts.
"""

import errno
import fcntl
import itertools
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, NamedTuple
from unittest import mock

from family import apart
from scenario import Host, adopt_orphans, reap

from libhook import run
from libhook.effects import locks
from libhook.simulation import faults, store
from libhook.simulation.faults import Fault

_EXIT = 77
_PATIENCE = 60.0
_LATE = "0.1"
_CALLS = ("mkdir", "rename", "unlink", "fsync", "fork")
_OF_CHILDREN = (
    *("write", "set", "load", "unload", "systemctl stop", "systemctl start", "systemd-run", "run-in-group"),
    *("systemctl --user tim stop", "systemctl --user tim start"),
    *("loginctl terminate-session", "signal", "record"),
)
"""What children do that changes something, as the simulated host's calls begin."""
WITHOUT_INODES, WITHOUT_PAGES = "no room for a new file", "no room for a byte"


When = Literal["before", "after"]
How = Literal["exit", "kill", "parent", "late", "writer"]
_WHEN: tuple[When, ...] = ("before", "after")
_DEATHS: tuple[How, ...] = ("exit", "kill")
_VICTIMS: tuple[How, ...] = ("parent", "writer")


Deed = Callable[[], int]
"""What is killed in the middle of it; its exit status when it is not."""


class Point(NamedTuple):
    """A moment at which a call of the hook is killed."""

    number: int
    """Of the effect, from 1."""
    effect: str
    """What it is, for whoever reads a failure."""
    when: When
    how: How = "kill"
    """``exit``: os._exit; ``kill``: SIGKILL. When a child is at work: the hook, its ``parent``, is killed and the
    child goes on, at once or ``late``; or the child is killed, the ``writer``, and the hook goes on."""

    @property
    def changes(self) -> bool:
        """Whether another process can see the difference: a lock dies with its process, and fsync is for the disk."""
        what, _, about = self.effect.partition(" ")
        return what not in ("lock", "fsync", "mkdir") and not (what == "unlink" and about.endswith(".new"))

    @property
    def call(self) -> str:
        """The calls of children among which ``number`` counts, as a fault names them."""
        return f"{_verb(self.effect)} *"

    def __str__(self) -> str:
        """``before rename …/x.json (7)``."""
        return f"{self.how} {self.when} {self.effect} ({self.number})"


class Effects:
    """Replaces, in this process and not in its children, what has effects."""

    def __init__(self, host: Host, point: Point | None) -> None:
        """With ``point`` the process ends there; without, ``seen`` says what there is."""
        self.seen: list[str] = []
        self._point = point
        self._host = host
        self._counting = True

    def install(self) -> None:
        """For good: the process is about to end."""
        for name in _CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))
        opening = os.open
        creating = self._counted("create", opening)
        os.open = lambda path, flags, *rest, **named: (creating if flags & os.O_CREAT else opening)(
            path, flags, *rest, **named
        )
        fcntl.flock = self._counted("lock", fcntl.flock)
        kernel = self._host.machine.kernel
        kernel.record = self._counted("record", kernel.record)  # type: ignore[method-assign]

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> object:  # noqa: ANN401 - stands for any of them
            if not self._counting:
                return call(*arguments, **named)
            about = str(arguments[0]).removeprefix(self._host.root)[:100] if arguments else ""
            self.seen.append(f"{name} {about}".rstrip())
            self._end_if_due("before")
            self._counting = False
            answer = None
            try:
                answer = call(*arguments, **named)
            finally:
                # A child's effects are the kernel's to count.
                self._counting = name != "fork" or answer != 0
                self._end_if_due("after")
            return answer

        return counted

    def _end_if_due(self, when: str) -> None:
        point = self._point
        if not self._counting or point is None or (point.number, point.when) != (len(self.seen), when):
            return
        if point.how == "exit":
            os._exit(_EXIT)
        os.kill(os.getpid(), signal.SIGKILL)


def points(host: Host, deed: Deed, *, both: bool) -> list[Point]:
    """Every point of this call, found by making it once; the host is changed by that.

    A process that is killed before an effect has done the same as one killed after the effect before it, so one of
    the two is enough; with ``both`` each is there, by each way to die.
    """

    def watched() -> list[str]:
        adopt_orphans()
        effects = Effects(host, None)
        effects.install()
        deed()
        seen = [*effects.seen]
        assert reap(_PATIENCE)  # nobody else can, and the host is put back meanwhile
        return seen

    before = len(_calls(host))
    faults.inject(host.root)  # none: so the calls are noted
    seen = apart(watched)()
    faults.heal(host.root)
    found: list[Point] = []
    for number, effect in enumerate(seen, 1):
        if both:
            found += [Point(number, effect, when, how) for when in _WHEN for how in _DEATHS]
        else:
            found.append(Point(number, effect, "before", "kill" if number % 2 else "exit"))
    found.append(Point(len(seen), seen[-1], "after"))
    count = dict.fromkeys(_OF_CHILDREN, 0)
    for effect in _calls(host)[before:]:
        number = count[_verb(effect)] = count[_verb(effect)] + 1
        found += [Point(number, effect, when, how) for when in _WHEN for how in _VICTIMS]
        if _verb(effect) != "record":  # one that comes late is true all the same
            found.append(Point(number, effect, "before", "late"))
    return found


def _calls(host: Host) -> list[str]:
    """What libhook's children have changed, each cut to what a reader needs."""
    lines = store.lines(f"{host.root}/var/log/calls.jsonl")
    return [line["call"][:100] for line in lines if line["by"] == "libhook" and _verb(line["call"])]


def _verb(call: str) -> str:
    return next((verb for verb in _OF_CHILDREN if call.startswith(f"{verb} ")), "")


def die(host: Host, deed: Deed, point: Point, until: str = "") -> int:
    """Make the call in a process that is killed there. Its wait status; an exit status of 0 or 1 is not a death.

    A ``late`` child goes on when the host's file ``until`` is there; without one, after a moment.
    """
    if point.how in ("parent", "late", "writer"):
        victim = "writer" if point.how == "writer" else "parent"
        deeds: tuple[faults.Deed, ...] = (("kill", victim),)
        if point.how == "late":
            deeds += (("wait", until) if until else ("sleep", _LATE),)
        fault = Fault(point.call, point.number)
        faults.inject(
            host.root, fault._replace(before=deeds) if point.when == "before" else fault._replace(after=deeds)
        )
    pid = os.fork()
    if pid == 0:
        if point.how in ("exit", "kill"):
            Effects(host, point).install()
        code = 255
        try:
            code = deed()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    faults.heal(host.root)
    return os.waitstatus_to_exitcode(status)


def hook(host: Host, arguments: tuple[str, ...], document: bytes) -> Deed:
    """A call of the hook."""
    return lambda: run.run(host.machine, run.Call(arguments, lambda: document, host.libvirt.pid)).code


def unwaited(host: Host, arguments: tuple[str, ...], document: bytes, uuid: str) -> Deed:
    """One that nobody waits for, with the guest's lock as the launcher takes it."""
    path = f"{host.machine.state}/locks/domain-{uuid}"

    def deed() -> int:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with locks.inherited(path, lock):
            call = run.Call(arguments, lambda: document, host.libvirt.pid, unwaited=True)
            return run.run(host.machine, call).code

    return deed


@contextmanager
def refusing(call: str, number: int, due: Callable[..., object] = lambda *_, **__: True) -> Iterator[None]:
    """This call of ``os`` fails in this process, with this errno, whenever it is ``due`` by its arguments."""
    making = getattr(os, call)

    def refuse_or_make(*arguments: Any, **named: Any) -> object:  # noqa: ANN401 - stands for any of them
        if due(*arguments, **named):
            raise OSError(number, os.strerror(number), *map(str, arguments[:1]))
        return making(*arguments, **named)

    with mock.patch.object(os, call, refuse_or_make):
        yield


@contextmanager
def full(host: Host, what: str) -> Iterator[None]:
    """/run without inodes, or without pages: the calls that would need one fail."""
    state = host.machine.state

    def is_new(path: str, flags: int, *_: int, **__: object) -> bool:
        return bool(flags & os.O_CREAT) and str(path).startswith(state) and not os.path.lexists(path)

    def is_half_written(descriptor: int) -> bool:
        return os.readlink(f"/proc/self/fd/{descriptor}").endswith(".new")

    call, due = ("open", is_new) if what == WITHOUT_INODES else ("fsync", is_half_written)
    with refusing(call, errno.ENOSPC, due):
        yield


@contextmanager
def read_only(host: Host) -> Iterator[None]:
    """/run/libhook is: no file in it can be replaced, overwritten or removed."""
    folder = host.machine.state

    def writes(path: str, flags: int, *_: int, **__: object) -> bool:
        return path.startswith(folder) and bool(flags & (os.O_WRONLY | os.O_RDWR))

    with refusing("open", errno.EROFS, writes), refusing("unlink", errno.EROFS, lambda path: path.startswith(folder)):
        yield


@contextmanager
def no_process(_host: Host, after: int) -> Iterator[None]:
    """So many can be had, and no more: the limit of libvirtd's service (TasksMax) is reached."""
    count = itertools.count()
    with refusing("fork", errno.EAGAIN, lambda: next(count) >= after):
        yield


@contextmanager
def no_descriptor(_host: Host, after: int) -> Iterator[None]:
    """So many more can be had (LimitNOFILE): whatever is free below those in use is taken."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        taken = [os.open(os.devnull, os.O_RDONLY)]
        stack.callback(lambda: list(map(os.close, taken)))
        highest = max(map(int, os.listdir("/proc/self/fd")))
        while taken[-1] < highest:
            taken.append(os.open(os.devnull, os.O_RDONLY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1 + after, before[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        yield
