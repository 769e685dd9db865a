# SPDX-License-Identifier: LGPL-2.1-or-later
"""Arguments, output and exit codes.

0: done. 1: refused or failed, with the reason on stderr. 2: wrong usage. 130: Ctrl-C.
"""

from __future__ import annotations

import gc
import io
import os
import sys

from libhook.errors import LibhookError, fault, named, printable
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import NoReturn

    from libhook.facts.machine import Machine
    from libhook.story.reading import Parse

REFUSED = 3
"""Tells the launcher of a refusal. It takes any other code except 0 as a broken Python or libhook."""
INHERITED = 9
"""The descriptor of the guest's lock, when the launcher took it for us."""
_GARBAGE = 100_000
"""An ordinary event makes fewer new objects than this. Looking for garbage among them takes 1 ms."""
_LIBVIRTS_STDOUT = 4
"""The descriptor of libvirtd's stdout, at the operations at which the launcher hands it on. Our own is /dev/null."""
_NO_ROOT = "name a simulated host, or leave it out: unset LIBHOOK_ROOT"
_READ_AHEAD = ("prepare", "start", "started", "reconnect")
"""Operations that need the guest's devices from the XML. At ``release`` the journal entry mostly has them."""


def machine() -> Machine:
    """Return this host, or the simulated host in the folder that LIBHOOK_ROOT names."""
    from libhook.facts.machine import Machine

    root = os.environ.get("LIBHOOK_ROOT", "")
    if not root:
        from libhook.look.linux import LinuxKernel

        return Machine("", LinuxKernel())
    from libhook.simulation.kernel import SimulatedKernel

    return Machine(root, SimulatedKernel(root))


def add_packages() -> None:
    """Make the distribution's packages importable under ``-S``. That option saves 6 ms of reading .pth files."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for folder in (
        "/usr/lib/python3/dist-packages",
        f"/usr/lib64/{version}/site-packages",
        f"/usr/lib/{version}/site-packages",
    ):
        if folder not in sys.path and os.path.isdir(folder):
            sys.path.append(folder)


def launched() -> NoReturn:
    """Run the hook for hooks/qemu. The arguments are a lock's path, the pid of the caller, and the hook's own.

    The path is that of the guest's lock when libvirtd does not wait; the launcher then holds it as descriptor 9.
    Otherwise it is "". We leave by _exit because libvirtd waits: tearing Python and lxml down would take longer than
    Python's start. For the same reason no collection of garbage runs in an ordinary event, which makes hardly any.
    """
    gc.set_threshold(_GARBAGE)
    hear_of_children()
    add_packages()
    lock, caller, *arguments = sys.argv[1:]
    code = 0  # a user's session daemon runs the same hook, but the user may neither bind devices nor write the trail
    if lock:
        from libhook.children import child
        from libhook.effects import locks

        os.setsid()  # a signal to the process group of the launcher's caller must not end us
        child.close_all_but({INHERITED})
        with locks.inherited(lock, INHERITED):
            _hook(int(caller), arguments, REFUSED, unwaited=True)
    elif os.geteuid() == 0 or os.environ.get("LIBHOOK_ROOT"):
        code = _hook(int(caller), arguments, REFUSED, _LIBVIRTS_STDOUT)
    sys.stderr.flush()
    os._exit(code)


def _hook(caller: int, arguments: list[str], refused: int, stdout: int = 1, *, unwaited: bool = False) -> int:
    document: Callable[[], bytes] = _read_stdin
    parse: Parse | None = None
    if len(arguments) == 4 and arguments[1] in _READ_AHEAD:
        from libhook.story import reading

        xml = _read_stdin()
        document, parse = (lambda: xml), reading.begin(xml)
    from libhook.run import Call, run

    dry_run = os.environ.get("LIBHOOK_DRY_RUN", "")
    answer = run(machine(), Call(arguments, document, caller, bool(dry_run), parse, unwaited, dry_run != "unlogged"))
    for line in answer.lines:
        print(line, file=sys.stderr)
    printed = answer.printed
    while printed:
        printed = printed[os.write(stdout, printed) :]
    return answer.code if answer.code == 0 or refused == 1 else refused


def _read_stdin() -> bytes:
    from libhook.xml.prolog import MAX_BYTES

    return sys.stdin.buffer.read(MAX_BYTES + 1)


def hold_streams() -> None:
    """Make sure that all three standard streams are open and can print every text.

    If our caller closed one, /dev/null takes its number before one of our files does. Characters that the encoding
    lacks are escaped: others choose the names that we print, and a strange name must not stop the output.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (
        stream or open(number, mode, encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
        for number, (stream, mode) in enumerate(((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w")))
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def hear_of_children() -> None:
    """Set SIGCHLD to its default, so that we can wait for children.

    A caller that ignores SIGCHLD hands that on to us, also through a bash that is /bin/sh.
    """
    from _signal import SIG_DFL, SIGCHLD, signal  # type: ignore[import-not-found]  # the module signal takes 0.4 ms to import

    signal(SIGCHLD, SIG_DFL)


def ask_selinux() -> None:
    """Check SELinux for install.sh before it puts the hook in place. Exits with REFUSED if it must not be there."""
    from libhook.command.doctor import before_install

    harmless, lines = before_install(machine(), sys.argv[1])
    for line in lines:
        print(printable(line))
    sys.exit(0 if harmless else REFUSED)


def main() -> None:
    """Run the ``libhook`` command."""
    hold_streams()
    hear_of_children()
    add_packages()
    try:
        from libhook.command import parsing
    except Exception as error:  # noqa: BLE001 - a broken handler must show as one line, not a traceback
        print(broken(error), file=sys.stderr)
        sys.exit(1)

    arguments = sys.argv[1:]
    if arguments[:1] == ["hook"] and arguments[1:] not in (["-h"], ["--help"]):  # a guest may be called --help
        sys.exit(_hook(os.getppid(), arguments[1:], 1))
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    parser = parsing.parser()
    if "_ARGCOMPLETE" in os.environ:
        from libhook.command import completing

        completing.complete(parser, machine())
    options = parser.parse_args(arguments)
    command: Callable[[Machine, argparse.Namespace], int] = options.command
    try:
        host = machine()
        if host.root and not os.path.isdir(host.root):
            raise LibhookError(f"LIBHOOK_ROOT is {host.root}, and there is no such folder", _NO_ROOT)
        code = command(host, options)
        sys.stdout.flush()
    except LibhookError as error:
        print(error.line, file=sys.stderr)
        code = 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        remedy = ": run it as root" if isinstance(error, PermissionError) else ""
        print(printable(f"{named(str(error.filename or 'libhook'))}: {error.strerror}{remedy}"), file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # noqa: BLE001 - as above
        print(broken(error), file=sys.stderr)
        code = 1
    sys.exit(code)


def broken(error: Exception) -> str:
    """Return one line: the missing module, or the file and line of a bug. Most likely a handler in the works has it."""
    if isinstance(error, ImportError) and not (error.name or "").startswith("libhook"):
        remedy = "run install.sh, which installs what is missing; from a clone, use /usr/bin/python3"
        return printable(f"{sys.executable}: {named(str(error))}: {remedy}")
    import traceback

    *_, last = traceback.extract_tb(error.__traceback__)
    where = f"{last.filename}, line {last.lineno}"
    remedy = "correct the handler, if it is yours; otherwise run install.sh again, and report it"
    return LibhookError(f"libhook itself failed: {fault(error)}: {where}", remedy).line
