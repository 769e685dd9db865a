# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libhook changes on a real machine through the kernel. What it only asks the kernel is in look/linux.py."""

from __future__ import annotations

import errno
import os
import select

from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from libhook.facts.launch import Launch

_AUDIT_VIRT_RESOURCE = 2501
_SYSTEMCTL, _JOURNALCTL = "/usr/bin/systemctl", "/usr/bin/journalctl"
_SYSTEMD_RUN = "/usr/bin/systemd-run"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_PRIORITY = {"info": 6, "warning": 4, "error": 3}


class Writing:
    """The part of the Kernel (facts/machine.py) that changes something."""

    def write(self, path: str, value: str) -> None:
        """See Kernel. O_NOFOLLOW is not set, since /sys/bus/pci/devices/* are links."""
        _write(os.open(f"/sys/{path}", os.O_WRONLY | os.O_CLOEXEC), path, value)

    def set_value(self, path: str, value: str) -> None:
        """See Kernel."""
        if not path.startswith(("/sys/", "/proc/sys/")) or ".." in path.split("/"):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), path)
        _write(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW), path, value)

    def load(self, module: str) -> None:
        """See Kernel. The child becomes modprobe and ends with its exit status: any but 0 is a failure."""
        os.execve("/sbin/modprobe", ["modprobe", "--", module], _ENVIRONMENT)

    def unload(self, module: str) -> None:
        """See Kernel. The child becomes rmmod, which removes one module. ``modprobe -r`` also removes what it used."""
        os.execve("/sbin/rmmod", ["rmmod", "--", module], _ENVIRONMENT)

    def systemctl(self, arguments: tuple[str, ...], seconds: float) -> tuple[int, str]:
        """See Kernel. As root it speaks to PID 1's own socket, so D-Bus need not run."""
        return _run(_SYSTEMCTL, ("--no-ask-password", "--no-pager", *arguments), seconds)

    def systemd_run(self, arguments: tuple[str, ...], document: bytes, seconds: float) -> tuple[int, str]:
        """See Kernel. PID 1 opens the document by our /proc/PID/fd. What the command prints goes to the journal."""
        stdin = os.memfd_create("document")
        try:
            os.write(stdin, document)
            given = f"--property=StandardInput=file:/proc/{os.getpid()}/fd/{stdin}"
            options = ("--no-ask-password", "--quiet", "--collect", "--service-type=exec", given)
            return _run(_SYSTEMD_RUN, (*options, *arguments), seconds, errors=True)
        finally:
            os.close(stdin)

    def run_group(self, launch: Launch, seconds: float, *, whole: bool) -> tuple[int | None, str]:
        """See Kernel."""
        from libhook.effects import launch as starting  # few hosts need it

        return starting.run(launch, seconds, whole=whole)

    def journalctl(self, arguments: tuple[str, ...], seconds: float) -> tuple[int, str]:
        """See Kernel."""
        return _run(_JOURNALCTL, ("--no-pager", *arguments), seconds)

    def record(self, text: str, success: bool) -> int:
        """See Kernel. No host name is passed, because libaudit would look it up in the DNS."""
        import audit  # the distribution's python3-audit

        try:
            connection = audit.audit_open()
        except OSError as error:
            return -(error.errno or errno.EIO)
        try:
            return int(
                audit.audit_log_user_message(connection, _AUDIT_VIRT_RESOURCE, text, None, None, None, int(success))
            )
        finally:
            audit.audit_close(connection)

    def log(self, fields: dict[str, object]) -> None:
        """See Kernel. Writes to the journal with all fields, or one line to syslog if python3-systemd is missing."""
        level = _PRIORITY[str(fields.pop("level", "info"))]
        event = fields.pop("event", "")
        line = " ".join((str(event), *(f"{name}={value}" for name, value in fields.items())))
        try:
            from systemd import journal
        except ImportError:
            import syslog

            syslog.openlog("libhook")
            syslog.syslog(level, line)
        else:
            named = {f"LIBHOOK_{name.upper()}": str(value) for name, value in fields.items()}
            journal.send(line, PRIORITY=str(level), SYSLOG_IDENTIFIER="libhook", **named)


def _run(program: str, arguments: tuple[str, ...], seconds: float, *, errors: bool = False) -> tuple[int, str]:
    """Run a program; return its exit status, ETIMEDOUT if it was late, and what it prints, also on stderr if asked."""
    opened = [os.memfd_create("output"), os.open(os.devnull, os.O_RDWR)]
    output, null = opened
    streams = (null, output, output if errors else null)
    try:
        pid = os.posix_spawn(
            program,
            [program, *arguments],
            {**_ENVIRONMENT, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
            file_actions=[(os.POSIX_SPAWN_DUP2, of, number) for number, of in enumerate(streams)],
        )
        opened.append(os.pidfd_open(pid))
        ends = select.poll()
        ends.register(opened[-1], select.POLLIN)
        in_time = ends.poll(seconds * 1000)
        if not in_time:
            os.kill(pid, 9)  # SIGKILL: the module signal takes long to import
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        text = os.pread(output, os.fstat(output).st_size, 0).decode("utf-8", "replace")
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return (status if in_time else errno.ETIMEDOUT), text


def _write(file: int, path: str, value: str) -> None:
    """Write the value in one write(2), and close the file."""
    content = os.fsencode(value)  # an override holds whatever bytes the administrator wrote
    try:
        if os.write(file, content) < len(content):  # it took only a part: nobody knows what that means
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
    finally:
        os.close(file)
