# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose a process is: the service, scope, container or session that its control group was made for. Pure."""

from __future__ import annotations

import re
from itertools import pairwise

from libhook.facts.host import KUBERNETES, Owner
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ID = r"([0-9a-f]{12})[0-9a-f]{52}"
_ENGINES = (
    (re.compile(rf"docker-{_ID}\.scope"), "docker"),
    (re.compile(rf"libpod-{_ID}(?:\.scope)?"), "podman"),
    (re.compile(rf"(?:crio|cri-containerd)-{_ID}\.scope"), "crictl"),
    (re.compile(r"systemd-nspawn@(.+)\.service"), "machinectl"),
    (re.compile(r"machine-(.+)\.scope"), "machinectl"),
    (re.compile(r"lxc\.payload\.(.+)"), "lxc"),
)
"""What engines call the group of a container, with its name. The ID of one has 64 digits, of which twelve name it."""
_OF_CGROUPFS = {"docker": re.compile(_ID), "lxc": re.compile("(.+)")}
"""The same where the engine makes groups without systemd: ``/docker/ID``."""
_OF_PODS = "kubepods"
"""In what the kubelet calls the groups above its containers, with either driver: ``kubepods-burstable.slice``."""
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_SESSION, _MANAGER = re.compile(r"session-([0-9A-Za-z]+)\.scope"), re.compile(r"user@(\d+)\.service")
_UNIT = re.compile(r".+\.(?:service|scope)")


def owner_of(group: str) -> Owner:
    """The owner of what is in this control group, ``/system.slice/smartd.service``. Empty where it is none of these.

    Only root's systemd makes groups outside users' managers. What is below such a manager is what that user says it is.
    """
    parts = group.split("/")[1:]
    user, below = "", parts
    if len(parts) > 2 and parts[0] == "user.slice":
        user, below = parts[1].removeprefix("user-").removesuffix(".slice"), parts[3:]
        session, manager = _SESSION.fullmatch(parts[2]), _MANAGER.fullmatch(parts[2])
        if session:
            return Owner(session=session[1], user=user)
        if not manager or manager[1] != user:
            return Owner()
    name, engine = _container(below)
    if engine:
        return Owner(container=name, engine=engine, user=user)
    unit = next(filter(_UNIT.fullmatch, below), "")
    if user:
        return Owner(unit=unit, user=user) if unit else Owner()
    if not unit or not (parts[0] == unit or parts[0].endswith(".slice")):
        return Owner()
    if unit.endswith(".scope"):
        return Owner(scope=unit)
    return Owner(service=unit) if parts[0] != "machine.slice" else Owner()


def _container(parts: Sequence[str]) -> tuple[str, str]:
    """The outermost container that these parts of a control group name, and its engine."""
    of_pods = False
    for part, below in pairwise((*parts, "")):
        of_pods = of_pods or _OF_PODS in part
        for pattern, engine in _ENGINES:
            if found := pattern.fullmatch(part):
                if of_pods:
                    return found[1], KUBERNETES
                name = _ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), found[1])
                return ("", "") if name.partition("-")[0] == "qemu" else (name, engine)  # a guest of libvirt
        if _UNIT.fullmatch(part):  # what is below it may be its user's (Delegate=)
            return "", ""
        if of_pods and (found := _OF_CGROUPFS["docker"].fullmatch(below)):
            return found[1], KUBERNETES
        if part in _OF_CGROUPFS and (found := _OF_CGROUPFS[part].fullmatch(below)):
            return found[1], part
    return "", ""
