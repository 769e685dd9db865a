# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libhook does to a real machine through its kernel. What it only asks of it is in look/linux.py."""

import errno
import os

_AUDIT_VIRT_RESOURCE = 2501
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_PRIORITY = {"info": 6, "warning": 4, "error": 3}


class Writing:
    """The part of the Kernel (facts/machine.py) that changes something."""

    def write(self, path: str, value: str) -> None:
        """See Kernel. O_NOFOLLOW is not set: /sys/bus/pci/devices/* are links by nature."""
        attribute = os.open(f"/sys/{path}", os.O_WRONLY | os.O_CLOEXEC)
        content = os.fsencode(value)  # an override is whatever bytes the administrator wrote
        if os.write(attribute, content) != len(content):  # it did take a part: what that means nobody knows
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def set_value(self, path: str, value: str) -> None:
        """See Kernel. A sysctl takes a value in one write(2); so does sysfs."""
        if not path.startswith(("/sys/", "/proc/sys/")) or ".." in path.split("/"):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), path)
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        content = os.fsencode(value)
        if os.write(file, content) != len(content):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def load(self, module: str) -> None:
        """See Kernel. Becomes modprobe, whose exit status is then the child's: any but 0 is failure."""
        os.execve("/sbin/modprobe", ["modprobe", "--", module], _ENVIRONMENT)

    def unload(self, module: str) -> None:
        """See Kernel. Becomes rmmod, which takes out this one and no other; ``modprobe -r`` also takes what it used."""
        os.execve("/sbin/rmmod", ["rmmod", "--", module], _ENVIRONMENT)

    def record(self, text: str, success: bool) -> int:
        """See Kernel. No host name is passed: libaudit would look it up in the DNS."""
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
        """See Kernel. To the journal with its fields; where python3-systemd is missing, to syslog as one line."""
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
