# SPDX-License-Identifier: LGPL-2.1-or-later
"""The virtual consoles of the simulated host, and fbcon, which comes with the first framebuffer and goes with the last.

store_bind() in drivers/tty/vt/vt.c returns success whatever it did. A driver of the system, "(S)", is never unbound.
"""

import os

from libhook.simulation import store

_DUMMY, _FBCON = "vtcon0", "vtcon1"
_NAMES = {_DUMMY: "(S) dummy device\n", _FBCON: "(M) frame buffer device\n"}


def follow_framebuffers(root: str) -> None:
    """A framebuffer has come or gone. fbcon takes the consoles when it comes (do_fb_registered() in fbcon.c)."""
    folder = f"{root}/sys/class/vtconsole"
    if any(os.path.lexists(f"{root}/sys/class/graphics/{name}") for name in _framebuffers(root)):
        if not os.path.isdir(f"{folder}/{_FBCON}"):
            _add(root, _DUMMY, "0\n")
            _add(root, _FBCON, "1\n")
    elif os.path.isdir(f"{folder}/{_FBCON}"):
        for name in ("bind", "name"):
            store.unlink(f"{folder}/{_FBCON}/{name}")
        os.rmdir(f"{folder}/{_FBCON}")
        store.replace(root, f"{folder}/{_DUMMY}/bind", "1\n")
    _count(root)


def bind(root: str, console: str, value: str) -> None:
    """store_bind(): what cannot be done is not done."""
    folder = f"{root}/sys/class/vtconsole"
    if console == _FBCON:
        store.replace(root, f"{folder}/{_FBCON}/bind", f"{value.strip()}\n")
        store.replace(root, f"{folder}/{_DUMMY}/bind", f"{int(value.strip() == '0')}\n")
        _count(root)


def bound(root: str) -> bool:
    """Whether fbcon has the consoles, and so a reference on the module of the framebuffer."""
    path = f"{root}/sys/class/vtconsole/{_FBCON}/bind"
    return os.path.exists(path) and store.read(path) == "1\n"


def _count(root: str) -> None:
    """Write the references of fbcon into the modules' ``refcnt``."""
    from libhook.simulation import modules

    for name in os.listdir(f"{root}/simulation/modules"):
        if (store.load(root, "modules", name) or {})["shows_consoles"]:
            modules.count(root, name)


def _framebuffers(root: str) -> list[str]:
    folder = f"{root}/sys/class/graphics"
    return [name for name in os.listdir(folder) if name != "fbcon"] if os.path.isdir(folder) else []


def _add(root: str, console: str, bind: str) -> None:
    folder = f"{root}/sys/class/vtconsole/{console}"
    os.makedirs(folder, exist_ok=True)
    store.create(f"{folder}/name", _NAMES[console])
    store.create(f"{folder}/bind", bind)
