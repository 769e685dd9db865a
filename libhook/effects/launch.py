# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a command in a process group, as systemd would start it: with nothing of ours. A child does that."""

from __future__ import annotations

import errno
import os

from libhook.children import child
from libhook.children.child import Deadline
from libhook.errors import named
from libhook.facts.launch import MOST_OUTPUT
from libhook.light import TYPE_CHECKING, partial, suppress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from libhook.facts.launch import Launch

_PATH = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""As systemd's, with /sbin and /bin: without systemd these may still be folders of their own."""
_LOGGERS = ("/usr/bin/logger", "/bin/logger")
"""That of util-linux, or busybox. It ends once nobody has its pipe open."""
_SECONDS = 15.0
_STOP_SECONDS = 5.0
"""From SIGTERM to SIGKILL."""
_SIGTERM, _SIGKILL = 15, 9
_BY_SIGNAL = 255
"""What systemd-run answers when a signal has ended the command."""
_MOST_SAID = 4096


def run(launch: Launch, seconds: float, *, whole: bool) -> tuple[int | None, str]:
    """See Kernel.run_group. The process is its group's leader, so its number is the group's until it is waited for."""
    report, reporter = os.pipe()
    log = _to_log(launch.tag)
    try:
        process = child.spawn(partial(_become, launch, reporter, log), keep=reporter, also=(log, launch.output))
    finally:
        os.close(reporter)
        os.close(log)
    # The pipe ends when the program is executed. Until then a disk, or a server that knows users, may be asked.
    in_time = child.ended([report], Deadline.after(_SECONDS))
    said = os.read(report, _MOST_SAID).decode("utf-8", "replace") if in_time else os.strerror(errno.ETIMEDOUT)
    os.close(report)
    is_late = not said and not child.ended([process.handle], Deadline.after(seconds))
    if said or is_late or whole:
        _end(process.pid, process.handle, _STOP_SECONDS if is_late else 0.0)
    os.close(process.handle)
    if said and not in_time:  # it may sleep in the kernel
        return 1, said
    code = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
    return (1 if said else None if is_late else code if code >= 0 else _BY_SIGNAL), said


def _end(group: int, handle: int, seconds: float) -> None:
    for number in (_SIGTERM, _SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(group, number)
        child.ended([handle], Deadline.after(seconds))
    child.ended([handle], Deadline.after(_SECONDS))


def _to_log(tag: str) -> int:
    """A descriptor for what is printed. The logger has nothing of ours: it may live as long as the guest."""
    logger = next((path for path in _LOGGERS if os.access(path, os.X_OK)), "")
    if not logger:
        return os.open(os.devnull, os.O_WRONLY)
    reader, writer = os.pipe()
    try:
        child.spawn(partial(_log, logger, tag, reader), keep=reader).abandon()
    finally:
        os.close(reader)
    return writer


def _log(logger: str, tag: str, reader: int) -> None:
    os.dup2(reader, 0)
    os.close(reader)
    os.chdir("/")
    os.execve(logger, ["logger", "-t", tag, "-p", "daemon.info"], _PATH)


def _become(launch: Launch, reporter: int, log: int) -> None:
    """In the new process. What fails is said by the pipe."""
    os.set_inheritable(reporter, False)
    try:
        os.umask(0o022)
        document = os.memfd_create("document")
        os.write(document, launch.document)
        os.lseek(document, 0, os.SEEK_SET)
        os.dup2(document, 0)
        os.dup2(log if launch.output < 0 else launch.output, 1)
        os.dup2(log, 2)
        for descriptor in {document, log, launch.output} - {-1}:
            os.close(descriptor)
        if launch.output >= 0:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_OUTPUT, MOST_OUTPUT))
        os.chdir("/")
        _forget_signals()
        own = _become_user(launch.user) if launch.user else {}
        os.execve(launch.argv[0], launch.argv, {**_PATH, **own, **launch.environment})
    except OSError as error:
        said = f"{named(str(error.filename or launch.argv[0]))}: {error.strerror}"
        os.write(reporter, said.encode("utf-8", "replace"))
        raise


def _become_user(name: str) -> Mapping[str, str]:
    """Return what systemd tells a unit that has a user."""
    import pwd  # may ask a server

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise OSError(errno.ENXIO, "there is no such user", name) from None
    os.initgroups(name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    return {"HOME": entry.pw_dir, "LOGNAME": name, "USER": name, "SHELL": entry.pw_shell or "/bin/sh"}


def _forget_signals() -> None:
    """Python ignores SIGPIPE, and whoever started us may ignore or block others. An executed program would, too."""
    import _signal as signals  # type: ignore[import-not-found] # the module signal makes an enum of each signal

    for number in signals.valid_signals():
        with suppress(OSError):  # SIGKILL and SIGSTOP
            signals.signal(number, signals.SIG_DFL)
    signals.pthread_sigmask(signals.SIG_SETMASK, ())
