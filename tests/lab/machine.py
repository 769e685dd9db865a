# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab machine: its PCI devices, and how QEMU is started and watched. Every wait in here has an end."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from image import Image, JobError, LabError

# A PCI device alone behind a root port has an IOMMU group of its own. Root ports sit at 00:10.0 and up in
# this order, so the buses behind them are numbered 1, 2, 3, … (hexadecimal in an address). guest/host.py
# names them for the tests; append here, never insert. Option ROMs only cost boot time, here and in guests.
# At more than 5 GT/s, QEMU's default, the kernel waits after each reset for a sign of the link that QEMU never gives:
# a second for each card of each guest ("Data Link Layer Link Active not set in 100 msec").
ROOT_PORTS: tuple[tuple[str, ...], ...] = (
    ("e1000e,romfile=",),  # 01
    ("igb,romfile=",),  # 02: four VFs at 02:10.0 to .6
    ("e1000e,romfile=",),  # 03
    ("e1000e,romfile=",),  # 04
    ("e1000e,romfile=",),  # 05
    ("nvme,serial=LAB1,drive=nvme1",),  # 06
    ("nvme,serial=LAB2,drive=nvme2",),  # 07
    ("qemu-xhci,id=xhci",),  # 08
    (
        "e1000e,romfile=,addr=0.0,multifunction=on",
        "e1000e,romfile=,addr=0.1",
    ),  # 09: two functions, one group
    ("virtio-scsi-pci,id=scsi",),  # 0a
    ("bochs-display",),  # 0b: /dev/dri/card0
    ("pcie-pci-bridge,id=bridge",),  # 0c, and 0d behind it
    ("e1000e,romfile=",),  # 0e
    ("virtio-net-pci,romfile=,disable-legacy=on",),  # 0f
    ("ich9-intel-hda,id=hda",),  # 10: /dev/snd/controlC0
)
BEHIND_THOSE = (
    "e1000,bus=bridge,addr=1,romfile=",  # 0d:01.0 and 0d:02.0: two devices that share the bridge's group
    "e1000,bus=bridge,addr=2,romfile=",
    "hda-output,bus=hda.0,audiodev=silence",
    "usb-tablet,bus=xhci.0,port=1",
    "usb-storage,bus=xhci.0,port=2,drive=stick",
    "usb-wacom-tablet,bus=xhci.0,port=3",
    "scsi-hd,bus=scsi.0,scsi-id=0,lun=0,drive=scsi0",
    "scsi-hd,bus=scsi.0,scsi-id=1,lun=0,drive=scsi1",
)
DISKS = {"nvme1": "256M", "nvme2": "256M", "stick": "64M", "scsi0": "64M", "scsi1": "64M"}
WITH_FILE_SYSTEM = ("nvme1", "stick")  # made out here: it takes no time, and the image needs no mkfs
# no_timer_check: on a busy machine the emulated timer can be too late for the kernel's test of it, which then panics.
KERNEL_ARGUMENTS = (
    "console=ttyS0 root=/dev/vda rw init=/usr/sbin/lab-init panic=-1 loglevel=5 "
    "intel_iommu=on audit=1 audit_backlog_limit=8192 no_timer_check rcupdate.rcu_cpu_stall_suppress=1"
)
CONSOLE_TAIL = 40
KVM_PROBE_LIMIT = 40


@dataclass(frozen=True)
class Limits:
    """Seconds. A quiet machine needs a tenth of what it has to boot, or less."""

    boot: float = 900
    """Until the job begins."""
    silence: float = 1800
    """Without a word of the job. pytest names each test, and ends it after 1,200 s, unless it hangs itself."""
    beat: float = 300
    """Without one of a CPU, which then has stopped: tests wait for it in vain."""
    total: float = 3600


def accelerator(image: Image, scratch: Path) -> list[str]:
    """KVM where this very kernel boots on it, else TCG: a /dev/kvm that exists proves nothing."""
    tcg = ["-accel", "tcg,thread=multi"]
    kvm = ["-accel", "kvm", "-cpu", "host"]
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return tcg
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = image.folder / f"kvm-{boot_id}"  # the answer holds until this machine is another, or another image
    if not known.exists():
        console = scratch / "probe.log"
        command = _command(image, scratch, kvm, "lab.probe", console, KVM_PROBE_LIMIT, with_devices=False)
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        booted = console.exists() and b"lab: the kernel runs here" in console.read_bytes()
        known.write_text("works" if booted else "does not boot")
    return kvm if known.read_text() == "works" else tcg


def run_machine(image: Image, scratch: Path, accel: list[str], limits: Limits) -> Iterator[bytes]:
    """Boot, and yield what the job prints as it comes. Returns once the job's status is in the share."""
    share, console = scratch / "share", scratch / "console.log"
    for name, size in DISKS.items():
        with open(scratch / f"{name}.img", "wb") as disk:
            disk.truncate(int(size[:-1]) << 20)
    for name in WITH_FILE_SYSTEM:
        _make_file_system(scratch / f"{name}.img")
    with open(scratch / "qemu.log", "wb") as log:
        process = subprocess.Popen(
            _command(image, scratch, accel, "", console, limits.total + 30),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield from _watch(process, share, limits)
        _wait(process, 15)
    finally:
        process.terminate()
        if not _wait(process, 10):
            process.kill()


def _make_file_system(disk: Path) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        subprocess.run(
            ["mke2fs", "-q", "-F", disk], env={"PATH": path}, check=True, stdin=subprocess.DEVNULL, timeout=600
        )
    except subprocess.SubprocessError as error:
        raise LabError(f"cannot make a file system for the lab: {error}") from None


def console_tail(scratch: Path) -> str:
    """The end of the console, and what QEMU itself had to say."""
    text = ""
    for name in ("console.log", "qemu.log"):
        path = scratch / name
        lines = path.read_text(errors="replace").splitlines()[-CONSOLE_TAIL:] if path.exists() else []
        text += f"--- {name}\n" + "".join(f"{line.rstrip()}\n" for line in lines)
    return text


def _watch(process: "subprocess.Popen[bytes]", share: Path, limits: Limits) -> Iterator[bytes]:
    began = last_word = time.monotonic()
    with open(share / "output", "rb") as output:
        while True:
            ended = (share / "status").exists() or process.poll() is not None
            text = output.read()
            now = time.monotonic()
            if text:
                yield text
                last_word = now
            if ended:
                break
            if not (share / "up").exists() and now - began > limits.boot:
                raise LabError(f"the machine was not ready for its job within {limits.boot:.0f} s")
            if now - last_word > limits.silence:
                raise JobError(f"the job has printed nothing for {limits.silence:.0f} s")
            if stopped := _stopped_cpus(share, limits.beat):
                raise LabError(f"CPU {', '.join(stopped)} of the machine has stopped for {limits.beat:.0f} s")
            if now - began > limits.total:
                raise JobError(f"the job took longer than {limits.total:.0f} s in all")
            time.sleep(0.1)
        yield output.read()
    if not (share / "status").exists():
        raise LabError(f"the machine ended before its job did (QEMU's exit status {process.poll()})")


def _stopped_cpus(share: Path, limit: float) -> list[str]:
    beats = ((path.name.removeprefix("beat-"), path.stat().st_mtime) for path in share.glob("beat-*"))
    return sorted(cpu for cpu, last in beats if time.time() - last > limit)


def _wait(process: "subprocess.Popen[bytes]", limit: float) -> bool:
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        return False
    return True


def _command(
    image: Image,
    scratch: Path,
    accel: list[str],
    append: str,
    console: Path,
    limit: float,
    with_devices: bool = True,
) -> list[str]:
    # timeout(1) outlives a runner that is killed, so that no machine is ever left running.
    command = ["timeout", "--kill-after=5", f"{limit:.0f}", "qemu-system-x86_64", *accel]
    command += ["-machine", "q35,kernel-irqchip=split", "-smp", "2", "-m", "3G"]
    command += [
        "-display",
        "none",
        "-vga",
        "none",
        "-nic",
        "none",
        "-no-reboot",
        "-nodefaults",
        "-monitor",
        "none",
    ]
    command += [
        "-kernel",
        str(image.kernel),
        "-initrd",
        str(image.initrd),
        "-append",
        f"{KERNEL_ARGUMENTS} {append}",
    ]
    command += ["-serial", f"file:{console}"]
    command += ["-device", "intel-iommu,intremap=on,caching-mode=on", "-device", "virtio-rng-pci"]
    command += ["-drive", f"if=none,id=root,file={image.disk},format=raw,snapshot=on"]
    command += ["-device", "virtio-blk-pci,drive=root"]
    if not with_devices:
        return command
    command += ["-fsdev", f"local,id=share,path={scratch / 'share'},security_model=none"]
    command += ["-device", "virtio-9p-pci,fsdev=share,mount_tag=share", "-audiodev", "none,id=silence"]
    for name in DISKS:
        command += ["-drive", f"if=none,id={name},file={scratch / name}.img,format=raw"]
    for number, devices in enumerate(ROOT_PORTS, start=1):
        command += [
            "-device",
            f"pcie-root-port,id=rp{number},chassis={number},slot={number},addr={number + 15:#x},x-speed=5",
        ]
        for device in devices:
            command += ["-device", f"{device},bus=rp{number}"]
    for device in BEHIND_THOSE:
        command += ["-device", device]
    return command
