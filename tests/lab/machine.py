# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab machine: its PCI devices, and how QEMU is started and watched. Every wait in here has an end."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from image import Image
from trouble import JobError, LabError

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
    "usb-storage,bus=xhci.0,port=2,drive=stick",
    "scsi-hd,bus=scsi.0,scsi-id=0,lun=0,drive=scsi0",
    "scsi-hd,bus=scsi.0,scsi-id=1,lun=0,drive=scsi1",
)
# SeaBIOS loops for ever at a HID device where time is counted in instructions.
PLUGGED_LATER = (
    {"driver": "usb-tablet", "bus": "xhci.0", "port": "1"},
    {"driver": "usb-wacom-tablet", "bus": "xhci.0", "port": "3"},
)
DISKS = {"nvme1": "256M", "nvme2": "256M", "stick": "64M", "scsi0": "64M", "scsi1": "64M"}
WITH_FILE_SYSTEM = ("nvme1", "stick")  # made out here: it takes no time, and the image needs no mkfs
# mitigations=off: nobody attacks this kernel's CPU, and emulated they cost a tenth of all time.
# no_timer_check: on a busy machine the emulated timer can be too late for the kernel's test of it, which then panics.
KERNEL_ARGUMENTS = (
    "console=ttyS0 root=/dev/pmem0 rw init=/usr/sbin/lab-init panic=-1 loglevel=5 "
    "intel_iommu=on audit=1 audit_backlog_limit=8192 no_timer_check rcupdate.rcu_cpu_stall_suppress=1 mitigations=off"
)
# Time in the machine is counted in instructions, two nanoseconds each: however busy the host is, what is computed in it
# takes no longer by its clock. One thread can do that, KVM cannot. While all in it sleep, its time is the host's. With
# sleep=off it would go on to the next timer at once, also where a process waits for the share or a disk, thus for the
# host: what took 0.1 s there was 4 to 18 s here (docs/decisions.md).
CLOCK = ("-accel", "tcg,thread=single", "-icount", "shift=1,sleep=on")
CONSOLE_TAIL = 40
_ANSWERS = 300.0  # seconds in which QEMU does


@dataclass(frozen=True)
class Limits:
    """Seconds. A quiet machine needs a tenth of what it has to boot, or less."""

    boot: float = 900
    """Of the machine's time, until the job begins."""
    silence: float = 1800
    """Of the machine's time, without a word of the job. pytest names each test, and ends it after 1,200 s, unless it
    hangs itself."""
    beat: float = 900
    """Of the host's time, without a beat of a CPU, which then has stopped: tests wait for it in vain. One comes in 5 s
    of the machine's time, which may be 500 s of a busy host's. The first comes before anything but the kernel is up."""
    total: float = 3600
    """Of the host's time."""


def run_machine(image: Image, scratch: Path, limits: Limits) -> Iterator[bytes]:
    """Boot, and yield what the job prints as it comes. Returns once the job's status is in the share."""
    share = scratch / "share"
    for name, size in DISKS.items():
        with open(scratch / f"{name}.img", "wb") as disk:
            disk.truncate(int(size[:-1]) << 20)
    for name in WITH_FILE_SYSTEM:
        _make_file_system(scratch / f"{name}.img")
    monitor, its_end = socket.socketpair()
    with open(scratch / "qemu.log", "wb") as log, its_end:
        process = subprocess.Popen(
            _command(image, scratch, limits.total + 30, its_end.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[its_end.fileno()],
        )
    try:
        with monitor:
            yield from _watch(process, share, limits, monitor)
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


def _plug(monitor: socket.socket) -> None:
    """Plug in what must not be there while the firmware looks."""
    monitor.settimeout(_ANSWERS)
    arguments: dict[str, str] = {}
    try:
        with monitor.makefile("rw") as talk:
            for execute, arguments in (("qmp_capabilities", {}), *(("device_add", one) for one in PLUGGED_LATER)):
                talk.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
                talk.flush()
                while "return" not in (answer := json.loads(talk.readline() or '{"error": "it has ended"}')):
                    if "error" in answer:  # else it is the greeting, or an event
                        raise LabError(f"QEMU does not plug in {arguments}: {answer['error']}")
    except OSError as error:  # it has ended, or does not answer
        raise LabError(f"QEMU does not plug in {arguments}: {error}") from None


def _watch(process: "subprocess.Popen[bytes]", share: Path, limits: Limits, monitor: socket.socket) -> Iterator[bytes]:
    began, last_word = time.monotonic(), 0.0
    is_up = plugged = False
    with open(share / "output", "rb") as output:
        while True:
            ended = (share / "status").exists() or process.poll() is not None
            text = output.read()
            stopped, now = _beats(share, limits.beat)
            if text:
                yield text
            if text or not is_up:
                last_word = now
            if ended:
                break
            if not plugged and (share / "kernel").exists():
                _plug(monitor)
                (share / "plugged").touch()
                plugged = True
            is_up = is_up or (share / "up").exists()
            if not is_up and now > limits.boot:
                raise LabError(f"the machine was not ready for its job within {limits.boot:.0f} s of its time")
            if now - last_word > limits.silence:
                raise JobError(f"the job has printed nothing for {limits.silence:.0f} s of the machine's time")
            if stopped:
                raise LabError(f"{stopped} has stopped for {limits.beat:.0f} s")
            if time.monotonic() - began > limits.total:
                raise JobError(f"the job took longer than {limits.total:.0f} s in all")
            time.sleep(0.1)
        yield output.read()
    if not (share / "status").exists():
        raise LabError(f"the machine ended before its job did (QEMU's exit status {process.poll()})")


def _beats(share: Path, limit: float) -> tuple[str, float]:
    """Return what has stopped, if anything has, and the seconds that the machine has been up, by its own clock."""
    beats = {f"CPU {path.name.removeprefix('beat-')} of the machine": path for path in share.glob("beat-*")}
    now = max((float(path.read_text() or 0) for path in beats.values()), default=0.0)  # one may be about to be written
    signs = beats or {"the machine": share / "output"}  # which the runner made before it booted
    stopped = (what for what, path in signs.items() if time.time() - path.stat().st_mtime > limit)
    return " and ".join(sorted(stopped)), now


def _wait(process: "subprocess.Popen[bytes]", limit: float) -> bool:
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        return False
    return True


def _command(image: Image, scratch: Path, limit: float, monitor: int) -> list[str]:
    # timeout(1) outlives a runner that is killed, so that no machine is ever left running.
    command = ["timeout", "--kill-after=5", f"{limit:.0f}", "qemu-system-x86_64", *CLOCK]
    command += ["-machine", "q35,kernel-irqchip=split,nvdimm=on", "-smp", "2", "-m", "3G,slots=1,maxmem=8G"]
    command += [
        "-display",
        "none",
        "-vga",
        "none",
        "-nic",
        "none",
        "-no-reboot",
        "-nodefaults",
    ]
    command += [
        "-kernel",
        str(image.kernel),
        "-initrd",
        str(image.initrd),
        "-append",
        KERNEL_ARGUMENTS,
    ]
    command += ["-serial", f"file:{scratch / 'console.log'}"]
    command += ["-device", "intel-iommu,intremap=on,caching-mode=on", "-device", "virtio-rng-pci"]
    # An NVDIMM, of which the machine has a copy page by page: it waits for each in an instruction, and no time passes.
    # While it waits for a disk it sleeps, and its time goes on.
    root = f"memory-backend-file,id=root,mem-path={image.disk},size={image.disk.stat().st_size},share=off"
    command += ["-object", root]
    command += ["-device", "nvdimm,memdev=root"]
    command += ["-fsdev", f"local,id=share,path={scratch / 'share'},security_model=none"]
    command += ["-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"]
    command += ["-device", "virtio-9p-pci,fsdev=share,mount_tag=share", "-audiodev", "none,id=silence"]
    for name in DISKS:
        command += ["-drive", f"if=none,id={name},file={scratch / name}.img,format=raw,cache=unsafe"]
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
