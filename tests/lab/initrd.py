# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab's initial RAM disk: it mounts the root, and no more. Debian's own takes half of the boot's time."""

import lzma
from collections.abc import Iterable, Mapping
from pathlib import Path

from trouble import LabError

MODULES = ("virtio_pci", "nfit", "nd_pmem", "ext4", "crc32c_generic")
"""What mounts the root, as far as the kernel has it not built in. ext4 asks for the last by its name as a cipher."""
INIT = """#!/bin/busybox sh
for module in /modules/*; do /bin/busybox insmod "$module"; done
/bin/busybox mount -t devtmpfs dev /dev
until /bin/busybox mount -t ext4 -o ro /dev/pmem0 /new; do /bin/busybox sleep 0.1; done
/bin/busybox mount --move /dev /new/dev
exec /bin/busybox switch_root /new /usr/sbin/lab-init
"""


def make(root: Path, release: str) -> bytes:
    """Return the archive, with the modules of this kernel out of an unpacked system.

    A later busybox has the kernel unpack any file that is not called .ko.
    """
    folder = root / "usr/lib/modules" / release
    lines = (line.split() for line in (folder / "modules.dep").read_text().splitlines())
    needs = {path.rstrip(":"): needed for path, *needed in lines}
    wanted = (path for name in MODULES for path in needs if Path(path).name.partition(".")[0] == name)
    # What a module needs is listed after what needs it.
    in_order = dict.fromkeys(one for path in wanted for one in (*reversed(needs[path]), path))
    files = {"bin/busybox": (root / "usr/bin/busybox").read_bytes(), "init": INIT.encode()}
    files |= {f"modules/{at:02}.ko": _unpacked(folder / path) for at, path in enumerate(in_order)}
    return _cpio(("bin", "dev", "modules", "new"), files)


def _unpacked(module: Path) -> bytes:
    content = module.read_bytes()
    if module.suffix == ".xz":
        return lzma.decompress(content)
    if module.suffix != ".ko":
        raise LabError(f"{module} is compressed in a way that the lab does not know")
    return content


def _cpio(folders: Iterable[str], files: Mapping[str, bytes]) -> bytes:
    """Return an archive as the kernel reads it (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    entries = [(name, 0o40755, b"") for name in folders]
    entries += [(name, 0o100755, content) for name, content in files.items()]
    archive = bytearray()
    for number, (name, mode, content) in enumerate((*entries, ("TRAILER!!!", 0, b"")), start=1):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += bytes(-len(archive) % 4)
        archive += content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
