# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mount points, and the names of systemd's units for them. Pure."""

from __future__ import annotations

_AS_IT_IS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_.")
"""What systemd-escape leaves as it is. A dot in front is the exception."""
_OF_HOST = ("/", "/var", "/run")
_TREES_OF_HOST = ("/proc", "/sys", "/dev", "/usr", "/etc", "/run/systemd", "/run/libvirt", "/run/libhook")
"""What the host, libvirt or libhook always needs. systemd itself never unmounts most of these (fstab_is_extrinsic() in
its shared/fstab-util.c). What else is needed shows in systemd's dependencies."""


_LIKELY_OF_HOST = ("/boot", "/efi", "/home", "/opt", "/root", "/var")
"""What a host mostly needs, as others than libhook see it."""


def escaped(text: str) -> str:
    """As systemd-escape(1) does (unit_name_escape() in systemd's basic/unit-name.c)."""
    return "".join(
        "-"
        if byte == ord("/")
        else chr(byte)
        if chr(byte) in _AS_IT_IS and (at or byte != ord("."))
        else f"\\x{byte:02x}"
        for at, byte in enumerate(text.encode("utf-8", "surrogateescape"))
    )


def unit_of(path: str) -> str:
    """The unit of a mount point, as systemd-escape --path names it: ``srv-data.mount``."""
    return f"{escaped(path.strip('/')) or '-'}.mount"


def path_of(unit: str) -> str:
    """The mount point of a unit, or of its automount; "" for any other unit."""
    name, _, kind = unit.rpartition(".")
    if kind not in ("mount", "automount"):
        return ""
    first, *rest = name.strip("-").replace("-", "/").split("\\x")
    path = f"/{first}".encode("utf-8", "surrogateescape")
    for part in rest:
        try:
            path += bytes.fromhex(part[:2]) + part[2:].encode("utf-8", "surrogateescape")
        except ValueError:  # no name that systemd makes
            path += f"\\x{part}".encode("utf-8", "surrogateescape")
    return path.decode("utf-8", "surrogateescape")


def is_mount_point(text: str) -> bool:
    """Whether this can be a mount point's path: absolute, and as the kernel shows it."""
    return text == "/" or (text.startswith("/") and not {"", ".", ".."} & set(text[1:].split("/")))


def is_of_host(path: str) -> bool:
    """Whether the host needs what is mounted there, whatever systemd says."""
    return path in _OF_HOST or any(f"{path}/".startswith(f"{tree}/") for tree in _TREES_OF_HOST)


def is_likely_of_host(path: str) -> bool:
    """Whether most hosts need what is mounted there. Its user may know better, so the settings may name it."""
    return any(f"{path}/".startswith(f"{tree}/") for tree in _LIKELY_OF_HOST)
