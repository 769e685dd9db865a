# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plays a guest's life with the scripts: which of them libvirt would call when, and which guests they know."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from libhook.facts.address import PciAddress
from libhook.importing import refusing, sandbox, scratch, trace, varying
from libhook.importing.done import Place, Trace
from libhook.importing.imagined import Imagined, imagine
from libhook.importing.inside import answers
from libhook.importing.refusing import Otherwise, Refusal
from libhook.importing.sandbox import Call, Outcome
from libhook.importing.sources import ANY, HOOKS, TREE, File, Sources
from libhook.importing.varying import Varying

PROBE = "libhook-probe"
"""The name of a guest that no script knows."""
STEPS = (("prepare", "begin", "-"), ("start", "begin", "-"), ("started", "begin", "-"), ("reconnect", "begin", "-"),
         ("stopped", "end", "-"), ("release", "end", "shutdown"), ("migrate", "begin", "-"), ("restore", "begin", "-"),
         ("attach", "begin", "-"))  # fmt: skip
_ROUNDS = 3
_LONGEST = 400
_TESTS, _LOOKED_FOR = re.compile(r"'?\[|test "), re.compile(r" '?-[efdrswxLhS]'? '?(/[^\s'\]]+)")
_Steps = tuple[tuple[Outcome, Trace], ...]
SECONDS = 20.0
"""That one call may take."""
_AGAIN = 4.0
"""The same on another host, where one has not ended on the first."""


class Guest(NamedTuple):
    """A guest to play."""

    name: str
    """As the settings name it: a name, or a pattern."""
    document: str = ""
    devices: tuple[PciAddress, ...] = ()

    @property
    def called(self) -> str:
        """A name that fits."""
        return re.sub(r"\[(.)[^\]]*\]", r"\1", self.name).replace("*", "x").replace("?", "x")


class Life(NamedTuple):
    """What the scripts did for one guest."""

    guest: Guest
    steps: "_Steps"
    host: Imagined
    refusals: tuple[Refusal, ...] = ()
    varying: Varying = Varying()

    @property
    def commands(self) -> Iterator[tuple[Place, str]]:
        """All commands."""
        return (command for _, one in self.steps for command in one.commands)

    @property
    def scratch(self) -> dict[str, str]:
        """The files that need not be written, where scripts keep notes, and why: they read them, or nobody does."""
        return {**scratch.unread(done for _, one in self.steps for done in one.done),
                **dict.fromkeys(self._read_again, scratch.READ)}  # fmt: skip

    @property
    def _read_again(self) -> frozenset[str]:
        """The files that were read, or looked for, at any operation."""
        looked = (path for _, command in self.commands if len(command) < _LONGEST and _TESTS.match(command)
                  for path in _LOOKED_FOR.findall(command))  # fmt: skip
        return frozenset(looked).union(*(one.read for _, one in self.steps))

    @property
    def lines(self) -> frozenset[Place]:
        """All lines that ran."""
        return frozenset[Place]().union(*(one.lines for _, one in self.steps))


def play(sources: Sources, guest: Guest, cpus: int, until: float, users: Mapping[str, int] = {}) -> Life:
    """Run all that libvirt would call. What was not there, and a script wanted to write to, is there the next time.

    ``users`` are this host's, and their numbers.
    """
    known = {file.place: file.is_shell for file in sources.files if file.place}
    scripts = [file for file in sources.files if file.place]
    texts = [file.scanned for file in scripts]
    hosts = [imagine(texts, guest.devices, cpus, users, other) for other in (0, 1)]
    host = hosts[0]
    if guest.document and "/" not in guest.called and guest.called not in (".", ".."):
        scripts.append(File("", f"/etc/libvirt/qemu/{guest.called}.xml", guest.document, executable=False))
    calls = [Call(guest.called, step[0], argv, guest.document) for step in STEPS
             for argv in _called(sources, guest.called, step)]  # fmt: skip
    wanted = frozenset[str]()
    first = [call for call in calls if call.operation in ("prepare", "start")]

    def again(points: Sequence[Otherwise], some: Sequence[Call] = first, on: Imagined = host, most: float = SECONDS
              ) -> _Steps:  # fmt: skip
        there = [f"{one.target}/" if one.is_folder else one.target for one in points if one.kind == "file"]
        other = _with_units(on, {one.target: one.there for one in points if one.kind == "unit"})
        outcomes = sandbox.run(scripts, other, some, most, until, sorted(wanted), there) if some else []
        return tuple((one._replace(trace=""), trace.read(one.trace, known)) for one in outcomes)

    for _ in range(_ROUNDS):
        steps = again((), calls)
        lacking = frozenset[str]().union(*(one.lacking for _, one in steps)) - wanted
        if not lacking or len(wanted) > 200 or not all(one.ended for one, _ in steps):
            break
        wanted |= lacking
    refusals, otherwise, ended = list[Refusal](), list[Otherwise](), all(one.ended for one, _ in steps)
    if ended:
        refusals, otherwise = refusing.find(steps, lambda name: _is_active(host, name), again)
        steps = again(otherwise, calls) if otherwise else steps
    varies = Varying()
    if asked := varying.asked(steps, texts):
        varies = varying.compare(steps, again(otherwise, calls, hosts[1], SECONDS if ended else _AGAIN), asked)
    return Life(guest, steps, host, tuple(refusals), varies)


def _with_units(host: Imagined, states: dict[str, bool]) -> Imagined:
    if not states:
        return host
    aliases = host.state["aliases"]
    units = {str(aliases.get(name, name)): "active" if on else "inactive"
             for name, on in ((answers.unit(name), on) for name, on in states.items())}  # fmt: skip
    return host._replace(state={**host.state, "units": {**host.state["units"], **units}})


def _is_active(host: Imagined, name: str) -> bool:
    whole = answers.unit(name)
    return host.state["units"].get(str(host.state["aliases"].get(whole, whole)), "active") == "active"


def _called(sources: Sources, guest: str, step: tuple[str, str, str]) -> Iterator[tuple[str, ...]]:
    """The command lines of one operation, in libvirt's order."""
    main = sources.at(f"{HOOKS}/qemu")
    if main and main.is_shell and not main.off:
        yield (*_by(main), guest, *step)
    elif not main:
        for file in _of_tree(sources, guest, step):
            yield (*_by(file), guest, *step)
    beside = (
        file
        for file in sources.files
        if file.place.rpartition("/")[0] == TREE and file.is_shell and file.interpreter and not file.off
    )
    for file in sorted(beside, key=lambda file: file.place.encode("utf-8", "surrogateescape")):
        yield (*_by(file), guest, *step)


def _by(file: File) -> tuple[str, ...]:
    """What runs a file. The kernel runs none without an interpreter in its first line; bash does."""
    return (file.place,) if file.interpreter else ("/bin/bash", file.place)


def _of_tree(sources: Sources, guest: str, step: tuple[str, str, str]) -> list[File]:
    """The scripts of a tree without its dispatcher, as the dispatchers that are published would find them."""
    operation, sub, _ = step
    found = []
    for file in sources.files:
        parts = file.place.split("/")
        name = ANY if ANY in parts else guest
        if (
            name not in parts
            or not file.is_shell
            or file.off
            or file.place.endswith((".md", ".txt", ".conf", ".xml", "~", ".swp"))
        ):
            continue
        rest = "/".join(parts[parts.index(name) + 1 :])
        bare = rest.removesuffix(".sh").removesuffix(".bash")
        exact = (f"{operation}/{sub}", f"{operation}.{sub}", f"{operation}-{sub}", operation)
        if bare in exact or rest.startswith((f"{operation}/{sub}/", f"{operation}/{sub}.d/")):
            found.append(file)
    return sorted(found, key=lambda file: file.place)
