# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes below the folder that the sandbox is given, and nowhere else: scripts choose some of the names."""

import os

from libhook.errors import BadInput


def inside(root: str, name: str) -> str:
    """The path of this name below ``root``. BadInput if it, or a link on its way, leads anywhere else."""
    path = os.path.normpath(f"{root}/{name}")
    parent = os.path.realpath(os.path.dirname(path))
    top = os.path.realpath(root)
    if {"", ".", ".."} & {*name.split("/")} or not f"{parent}/".startswith(f"{top}/"):
        raise BadInput(f"{name} is no path below the sandbox's folder", "take it out of the scripts")
    return path


def put(root: str, name: str, text: str, mode: int = 0o644) -> None:
    """Write a file, and the folders above it."""
    path = inside(root, name)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.unlink(path)
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(path, mode)
    except OSError as error:
        raise _cannot(name, error) from None


def link(root: str, name: str, to: str) -> None:
    """Make a link, if nothing is there yet."""
    path = inside(root, name)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.lexists(path):
            os.symlink(to, path)
    except OSError as error:
        raise _cannot(name, error) from None


def _cannot(name: str, error: OSError) -> BadInput:
    """Why a file cannot be made, as where a file has the place of its folder."""
    return BadInput(f"{name}: {error.strerror}", "give fewer scripts at once")
