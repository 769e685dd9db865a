# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks virsh, for those who may not read libvirt's files."""

import subprocess

from libhook.errors import LibhookError

REMEDY = "run it as root, which may read libvirt's files"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""Not the PATH of who asks: a user's program may come first there, and root may ask."""


def ask(*words: str, patience: float) -> subprocess.CompletedProcess[bytes]:
    """Return what it answered. LibhookError if it cannot be run, or does not answer in so many seconds."""
    try:
        return subprocess.run(
            ("virsh", "-q", "-c", "qemu:///system", *words),  # noqa: S607 - the environment says where it is
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_ENVIRONMENT,
            timeout=patience,
            check=False,
        )
    except OSError as error:
        raise LibhookError(f"virsh cannot be run: {error.strerror}", REMEDY) from None
    except subprocess.TimeoutExpired:
        raise LibhookError(f"virsh does not answer within {patience:g} s", REMEDY) from None
