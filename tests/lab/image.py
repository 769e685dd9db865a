# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab's disk image: what is in it, how it is built, and where it is kept.

An image is named by the hash of all that goes into it, so nobody ever has to remember to rebuild one.
Nothing of libhook is in it: the working tree goes in at each boot.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import initrd
from trouble import LabError

SUITE = "trixie"
"""The generation of Debian that an ordinary run plays."""
_DRIVERS = "libvirt-daemon-driver-nodedev libvirt-daemon-driver-network"
UNRELEASED = "sid"
"""Where Debian's next generation comes from. It has no updates beside itself."""
SUITES = {SUITE: _DRIVERS, "bookworm": "libvirt-daemon-system", UNRELEASED: f"{_DRIVERS} initramfs-tools mount passwd"}
"""The generations there are images of, and what each has beside ``PACKAGES``. In bookworm, libvirt-daemon has the two
drivers in it, and no units. In sid fewer packages are essential, and the kernel would bring dracut, which ``NO_INITRD``
does not stop."""
HOST_PROGRAMS = {"mmdebstrap": "mmdebstrap", "qemu-system-x86_64": "qemu-system-x86", "mke2fs": "e2fsprogs"}
# lvm2 and mdadm stand on disks that are then in use; driverctl is what the benchmark compares with; tgt is an iSCSI
# target, and qemu-block-extra has QEMU's other end of it.
PACKAGES = """
    linux-image-amd64 kmod udev systemd-sysv dbus procps psmisc iproute2 iputils-ping pciutils usbutils
    libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-block-extra auditd driverctl
    hyperfine lvm2 mdadm tgt
    python3-audit python3-libvirt python3-lxml python3-structlog python3-systemd
    python3-pytest python3-pytest-timeout python3-hypothesis apparmor busybox-static
"""
NO_INITRD = {"INITRD": "No"}
"""Stops /etc/kernel/postinst.d/initramfs-tools, which takes a third of the time of the whole image."""
NOT_NEEDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
BUILD_LIMIT = 1200
APT_OPTIONS = ("Acquire::Retries=3", "DPkg::Lock::Timeout=300")
"""For a mirror that fails once, and for another apt that installs something."""
DISK_SIZE = "3G"
INIT = Path(__file__).parent / "init"
MADE_BY = (Path(__file__), Path(initrd.__file__), INIT)


@dataclass(frozen=True)
class Image:
    """A built image: the root disk and the kernel that boots it."""

    folder: Path

    @property
    def disk(self) -> Path:
        """The root file system, never written to."""
        return self.folder / "disk.img"

    @property
    def kernel(self) -> Path:
        """Debian's kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """An initial RAM disk that mounts the root, and no more."""
        return self.folder / "initrd.img"


def cache_folder() -> Path:
    """Where images, logs and locks are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "libhook-lab"


def need_host_programs() -> None:
    """Install what this machine lacks to build and boot the image; without a need apt is not asked."""
    if not _missing():
        return
    cache_folder().mkdir(parents=True, exist_ok=True)
    with open(cache_folder() / "lock-programs", "w") as lock:  # of two labs that begin at once, apt-get fails one
        _lock(lock.fileno(), BUILD_LIMIT)
        if missing := _missing():
            _install(missing)


def _missing() -> list[str]:
    return sorted(package for program, package in HOST_PROGRAMS.items() if not _find_program(program))


def _install(missing: Sequence[str]) -> None:
    if os.geteuid() != 0:
        raise LabError(f"missing on this machine: {' '.join(missing)} (run as root, or install them)")
    print(f"lab: installing {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", *(part for option in APT_OPTIONS for part in ("-o", option))]
    install = [*apt, "install", "-y", "--no-install-recommends", *missing]
    for command in (install, [*apt, "update"], install):
        try:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=BUILD_LIMIT
            )
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            raise LabError(f"cannot install {' '.join(missing)}: {error}") from None
        if command is install and done.returncode == 0:
            return
    raise LabError(f"cannot install {' '.join(missing)}: {_apt_reason(done.stderr.decode(errors='replace'))}")


@contextmanager
def current_image(suite: str = SUITE) -> Iterator[Image]:
    """The suite's image for today's inputs, built if the cache has none; nobody removes it while the block runs."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    sources = _apt_sources(suite)
    folder = cache / f"image-{suite}-{_hash_of_inputs(suite, sources)}"
    with open(cache / f"lock-{suite}", "w") as lock:
        _lock(lock.fileno(), 2 * BUILD_LIMIT)
        if not folder.exists():
            _remove_unused(cache, suite)
            _build(cache, folder, suite, sources)
        in_use = os.open(folder, os.O_RDONLY)
        fcntl.flock(in_use, fcntl.LOCK_SH)
    try:
        yield Image(folder)
    finally:
        os.close(in_use)


def _find_program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _lock(descriptor: int, limit: float) -> None:
    deadline = time.monotonic() + limit
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LabError(f"another run has been building the image for {limit:.0f} s") from None
            time.sleep(0.5)


def _hash_of_inputs(suite: str, sources: dict[str, str]) -> str:
    inputs = [suite, *(path.read_text() for path in MADE_BY), *sources.values()]
    if suite == UNRELEASED:  # it changes every day, and an image of last month says nothing about it
        inputs.append(time.strftime("%G-W%V", time.gmtime()))
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]


def _remove_unused(cache: Path, suite: str) -> None:
    """Remove the suite's old images, and the rests of interrupted builds. The caller holds the suite's lock.

    Before there were several suites, an image had none in its name.
    """
    nameless = (folder for folder in cache.glob("image-*") if folder.name.count("-") == 1)
    for folder in [*cache.glob(f"image-{suite}-*"), *nameless, *cache.glob(f"building-{suite}-*")]:
        held = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # a machine is running from it
        finally:
            os.close(held)


def _build(cache: Path, folder: Path, suite: str, sources: dict[str, str]) -> None:
    if os.geteuid() != 0:
        raise LabError("building the image needs root")
    began = time.monotonic()
    log = cache / f"build-{suite}.log"
    work = cache / f"building-{suite}-{os.getpid()}"
    root = work / "root"
    work.mkdir()
    print(f"lab: building the image of {suite} (once; about a minute; log in {log})", flush=True)
    for name, text in sources.items():
        (work / name).write_text(text)
    options = [f"--aptopt={option}" for option in ('Acquire::Retries "3"', *_apt_options())]
    options += [f"--dpkgopt=path-exclude={path}" for path in NOT_NEEDED]
    try:
        with open(log, "w") as output:
            _step(
                output,
                "mmdebstrap",
                "--variant=apt",
                "--mode=root",
                "--format=directory",
                *options,
                '--aptopt=APT::Install-Recommends "false"',
                f"--include={','.join((*PACKAGES.split(), *SUITES[suite].split()))}",
                suite,
                str(root),
                *(str(work / name) for name in sources),
            )
            [kernel] = (root / "boot").glob("vmlinuz-*")
            shutil.move(kernel, work / "vmlinuz")
            (work / "initrd.img").write_bytes(initrd.make(root, kernel.name.removeprefix("vmlinuz-")))
            init = root / "usr/sbin/lab-init"
            init.write_text(INIT.read_text())
            init.chmod(0o755)
            _step(
                output,
                "mke2fs",
                "-q",
                "-t",
                "ext4",
                "-E",
                "lazy_itable_init=1",
                "-d",
                str(root),
                str(work / "disk.img"),
                DISK_SIZE,
            )
        shutil.rmtree(root)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"lab: image built in {time.monotonic() - began:.0f} s", flush=True)


def _step(output: TextIO, *command: str) -> None:
    path = _find_program(command[0]) or command[0]
    environment = {**os.environ, **NO_INITRD, "DEBIAN_FRONTEND": "noninteractive", "TMPDIR": "/tmp"}
    try:
        done = subprocess.run(
            [path, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=BUILD_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{command[0]} did not finish within {BUILD_LIMIT} s") from None
    if done.returncode != 0:
        raise LabError(f"{command[0]} failed: {_apt_reason(Path(output.name).read_text(errors='replace'))}")


def _apt_reason(text: str) -> str:
    """The line of apt or mmdebstrap that says what is wrong: the first error, others follow from it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")]
    return (errors or lines or ["no reason given"])[0]


def _apt_sources(suite: str) -> dict[str, str]:
    """The machine's own apt sources, with the suite's name: so a mirror chosen here serves the image, too."""
    folder = Path("/etc/apt/sources.list.d")
    stanzas = [stanza.strip() for file in sorted(folder.glob("*.sources")) for stanza in file.read_text().split("\n\n")]
    lines = [
        line.strip()
        for file in [Path("/etc/apt/sources.list"), *sorted(folder.glob("*.list"))]
        if file.exists()
        for line in file.read_text().splitlines()
    ]
    if suite == UNRELEASED:
        stanzas, lines = ([re.sub(rf"\s{SUITE}[-/]\S+", "", text) for text in texts] for texts in (stanzas, lines))
    found = {
        "lab.sources": "\n\n".join(filter(_serves_suite, stanzas)),
        "lab.list": "\n".join(line for line in lines if line.startswith("deb ") and _serves_suite(line)),
    }
    found = {name: text.replace(SUITE, suite) + "\n" for name, text in found.items() if text}
    return found or {"lab.list": f"deb http://deb.debian.org/debian {suite} main\n"}


def _serves_suite(text: str) -> bool:
    # A file: or cdrom: source cannot be reached from inside the tree that is being built.
    return SUITE in text and any(scheme in text for scheme in ("http:", "https:", "mirror+http"))


def _apt_options() -> list[str]:
    """The machine's settings for reaching the archive (a proxy, a late clock); mmdebstrap reads none."""
    try:
        dump = subprocess.run(
            ["apt-config", "dump", "--no-empty", "Acquire"], capture_output=True, text=True, timeout=300
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []
    wanted = ("Acquire::http", "Acquire::Check-")
    return [line.rstrip(";") for line in dump.stdout.splitlines() if line.startswith(wanted)]


if __name__ == "__main__":
    try:
        need_host_programs()
        with current_image() as image:
            print(image.folder)
    except LabError as error:
        sys.exit(f"lab: {error}")
