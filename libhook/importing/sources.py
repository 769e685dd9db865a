# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the files that are to be imported, and finds out where each one was meant to be. Only looks."""

import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from libhook.errors import named
from libhook.importing.reading import MOST_FILES, Reader

HOOKS = "/etc/libvirt/hooks"
TREE = f"{HOOKS}/qemu.d"
ANY = "libhook-any"
"""A folder of the tree whose scripts run for every guest: nobody said for which."""
OPERATIONS = ("prepare", "start", "started", "stopped", "release", "reconnect", "migrate", "restore", "attach")
_OTHERS = ("daemon", "network", "lxc", "libxl")
"""Hooks of libvirt's that are not about QEMU's guests (libvirt, docs/hooks.rst), and their folders."""
_LONGEST = 1000
_ROOTS = ("etc", "usr", "opt", "bin", "sbin", "var")
"""Folders of a repository that stand for the host's own."""
_PATH = re.compile(r"(?<![\w.$}/])/(?:etc|usr|bin|sbin|opt|root|home|srv|var/lib|lib)/[\w./@+-]*[\w+-](?![\w/$*{.@+-])")
_NAME = re.compile(r"[\w.+-]+")
_UNITS = (".service", ".timer", ".socket", ".target")
_SHELLS = ("sh", "bash", "dash", "ash", "busybox")


@lru_cache(maxsize=64)
def _lines(text: str) -> tuple[str, ...]:
    return tuple(line[:_LONGEST] for line in text.split("\n"))


class File(NamedTuple):
    """One file."""

    origin: str
    """Where it was read."""
    place: str
    """Where it is on a host: libvirt, or another script, finds it there. "" where nobody says."""
    text: str
    executable: bool = True
    off: bool = False
    """Nobody may execute it, but other hooks beside it: somebody has switched it off."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Its lines, the first as number 0. No more of a long one than people write: patterns look at them."""
        return _lines(self.text)

    @property
    def scanned(self) -> str:
        """Its text, long lines cut."""
        return "\n".join(self.lines)

    @property
    def interpreter(self) -> str:
        """The program that its first line names, without its folder; "" for none, or a binary's ``\\0``."""
        if "\0" in self.text[:80]:
            return "\0"
        if not self.text.startswith("#!"):
            return ""
        words = [os.path.basename(word) for word in self.text[2:].partition("\n")[0].split()]
        words = [word for word in words if word != "env" and not word.startswith("-")] or [""]
        return words[0]

    @property
    def shown(self) -> str:
        """Where it comes from, in a sentence."""
        return named(self.origin)

    @property
    def is_shell(self) -> bool:
        """Whether bash can run it."""
        return self.interpreter in ("", *_SHELLS)


def runs(file: File) -> bool:
    """Whether it is meant to be run: it says so, or looks like it."""
    return file.executable or file.text.startswith("#!") or file.place.endswith(".sh")


class Sources(NamedTuple):
    """All files, and what was found out about them."""

    files: tuple[File, ...]
    found: tuple[str, ...] = ()
    """What the reader should know of where they are."""

    def at(self, place: str) -> File | None:
        """The file at this place."""
        return next((file for file in self.files if file.place == place), None)


def read(paths: Sequence[str]) -> Sources:
    """Read files and folders. LibhookError where one is not there, or too much is."""
    reader = Reader(paths, HOOKS)
    raw = reader.all(paths)
    files = [File(origin, _known_place(origin, top), text, mode) for origin, top, text, mode in raw]
    own = [file.origin for file in files if "LIBHOOK_ROOT" in file.text and "libhook" in file.text]
    files = [file for file in files if file.origin not in own]
    files = _in_hooks(files, [top for origin, top, _, _ in raw if origin not in own])
    if not any(file.place.startswith(HOOKS) and not file.place.endswith(".conf") for file in files):
        files = _pair(files) or _lone(files)
    placed, found = _referred(files)
    placed, more = _of_host(placed, reader)
    found += [f"{file.shown} is taken for a script of {named(file.place.split('/')[6])}, for every guest: nothing says"
              " which"
              for file in placed if f"/{ANY}/" in file.place]  # fmt: skip
    placed, twice = _once(placed)
    found += twice
    found += [f"{named(origin)} is libhook's own hook" for origin in own]
    found += [f"{named(path)} has the line ends of Windows: no kernel runs it so, and here it is read without them"
              for path in reader.windows]  # fmt: skip
    others = [file for file in placed if file.place.removeprefix(f"{HOOKS}/").split("/")[0].split(".")[0] in _OTHERS]
    found += [f"{file.shown} is no hook for guests: import reads hooks/qemu, and libvirt goes on running this one"
              for file in others]  # fmt: skip
    placed, off = _switched_off([file for file in placed if file not in others])
    found += off
    typed = [(os.path.abspath(path), path.rstrip("/") or path) for path in paths]
    return Sources(tuple(file._replace(origin=_typed(file.origin, typed)) for file in placed),
                   tuple(_typed(text, typed) for text in (*reader.skipped, *found, *more)))  # fmt: skip


def _switched_off(files: list[File]) -> tuple[list[File], list[str]]:
    """Heed the modes of hooks, if any has one: a repository may have lost them all. Tell of those that nobody names."""
    hooks = {file.place: file for file in files if file.place.startswith(HOOKS) and runs(file)}
    if not any(file.executable for file in hooks.values()):
        return files, []
    off = {place for place, file in hooks.items() if not file.executable}
    named = {word for file in files for word in _NAME.findall(file.scanned)} if off else set()
    found = [f"{hooks[place].shown} is switched off, since it is not executable: chmod +x it, and import again, if you"
             " need it" for place in sorted(off) if os.path.basename(place) not in named]  # fmt: skip
    return [file._replace(off=file.place in off) for file in files], found


def _once(files: list[File]) -> tuple[list[File], list[str]]:
    """Keep one file for each place."""
    kept, found = dict[str, File](), list[str]()
    for file in files:
        other = kept.setdefault(file.place or file.origin, file)
        if other is not file:
            found.append(f"{file.shown} is not imported: {other.shown} is in its place; import it by itself")
    return list(kept.values()), found


def _typed(origin: str, paths: Sequence[tuple[str, str]]) -> str:
    """A path as who gave it wrote it."""
    for whole, path in paths:
        if origin.startswith(whole):
            return path + origin[len(whole) :]
    return origin


def _known_place(origin: str, top: str) -> str:
    """Where the file is installed already, or where its repository says: in a folder that is called etc or usr."""
    if origin.startswith(("/etc/", "/usr/", "/bin/", "/opt/")) and "/libvirt/hooks" in f"{origin}/":
        return origin
    parts = os.path.relpath(origin, os.path.dirname(top)).split("/")
    if "libvirt" in parts and "hooks" in parts[parts.index("libvirt") + 1 : parts.index("libvirt") + 2]:
        return f"{HOOKS}/{'/'.join(parts[parts.index('libvirt') + 2 :])}"
    for at, part in enumerate(parts[:-2] if parts[-2:-1] != ["bin"] else parts[:-1]):
        if part in _ROOTS:
            return f"/{'/'.join(parts[at:])}"
    return f"/etc/systemd/system/{parts[-1]}" if parts[-1].endswith(_UNITS) else ""


def _in_hooks(files: list[File], tops: list[str]) -> list[File]:
    """Find the folder that stands for libvirt's, and the tree with a folder for each guest."""
    roots = set[str]()
    for file in files:
        folder, name = os.path.split(file.origin)
        if not file.place and name == "qemu" and file.text.startswith("#!"):
            roots.add(folder)
        if not file.place and "/qemu.d/" in file.origin:
            roots.add(file.origin.partition("/qemu.d/")[0])
    placed = []
    for file, top in zip(files, tops, strict=True):
        place = file.place
        root = max((root for root in roots if file.origin.startswith(f"{root}/")), key=len, default="")
        if not place and root:
            place = f"{HOOKS}{file.origin[len(root) :]}"
        elif not place and (inside := _in_tree(file.origin, top)):
            place = f"{TREE}/{inside}"
        placed.append(file._replace(place=place))
    return placed


def _in_tree(origin: str, top: str) -> str:
    """The part of a path from the guest's folder on: GUEST/prepare/begin/x, GUEST/prepare.sh."""
    parts = os.path.relpath(origin, os.path.dirname(top)).split("/")
    for at, part in enumerate(parts[1:], 1):
        is_file = at == len(parts) - 1
        if re.split(r"[.-]", part)[0] in OPERATIONS and not (is_file and part in ("start.sh", "start", "attach.sh")):
            return "/".join(parts[at - 1 :])
    return ""


_FIRST = re.compile(r"(?:start|startup|begin|bind|up|prepare|enter|before)")
_LAST = re.compile(r"(?:revert|stop|teardown|end|unbind|down|release|leave|after|shutdown)")


def _pair(files: list[File]) -> list[File]:
    """Two scripts without a dispatcher, one for before and one for after: start.sh and revert.sh. Else nothing."""
    placed = dict[str, str]()
    for file in files:
        name = os.path.basename(file.origin)
        words = re.split(r"[._-]", name.lower())
        if file.place or not file.is_shell or not (file.text.startswith("#!") or name.endswith(".sh")):
            continue
        if any(_LAST.fullmatch(word) for word in words):
            placed[file.origin] = f"{TREE}/{ANY}/release/end/{name}"
        elif any(_FIRST.fullmatch(word) for word in words):
            placed[file.origin] = f"{TREE}/{ANY}/prepare/begin/{name}"
    if len({place.split("/")[6] for place in placed.values()}) < 2:
        return []
    return [file._replace(place=placed.get(file.origin, file.place)) for file in files]


def _lone(files: list[File]) -> list[File]:
    """One script that is not called qemu: the one that looks at its arguments and is called by no other."""
    scripts = [file for file in files if (not file.place and file.is_shell) or file.interpreter]
    names = {os.path.basename(file.origin) for file in scripts}
    tops = [
        file
        for file in scripts
        if not any(os.path.basename(file.origin) in other.text for other in scripts if other is not file)
        and (re.search(r"\$\{?[12]\b|argv|\bprepare\b", file.scanned) or len(names) == 1)
    ]
    hook = tops[0] if tops else None
    return [file._replace(place=f"{HOOKS}/qemu") if file is hook else file for file in files]


def _referred(files: list[File]) -> tuple[list[File], list[str]]:
    """Put a file that is nowhere yet where another one looks for it."""
    wanted: dict[str, str] = {}
    for file in files:
        for path in _paths(file):
            wanted.setdefault(os.path.basename(path), path)
    have, found, placed = {file.place for file in files}, list[str](), list[File]()
    for file in files:
        name = os.path.basename(file.origin)
        place = wanted.get(name) or wanted.get(name.rpartition(".")[0])
        if place and place not in have and file.place != place and not _is_hook(file):
            if not file.place:
                found.append(f"{file.shown} is taken for {named(place)}, which a script names")
            placed.append(file._replace(place=place))
            have.add(place)
            continue
        placed.append(file)
    return placed, found


def _is_hook(file: File) -> bool:
    """Whether libvirt or a dispatcher finds it where it is."""
    return file.place.startswith(TREE) or file.place == f"{HOOKS}/qemu"


def _of_host(files: list[File], reader: Reader) -> tuple[list[File], list[str]]:
    """Add what these name of the folders that may be read, and what that names. Of what lies elsewhere, tell."""
    have, found, pending = {file.place for file in files} | {file.origin for file in files}, list[str](), list(files)
    while pending and len(files) < MOST_FILES:
        for path in _paths(pending.pop()):
            if path in have:
                continue
            have.add(path)
            if not reader.may_read(os.path.realpath(path)):
                if _is_own(path) and os.path.isfile(path) and os.access(path, os.X_OK):
                    found.append(
                        f"{named(path)} is on this host, and a script names it: give it, too, if it is a script"
                    )
                continue
            one = reader.file(path) if os.path.isfile(path) else None
            if one and "\0" not in one[0] and (one[0].startswith("#!") or path.startswith(HOOKS)):
                files.append(File(path, path, *one))
                pending.append(files[-1])
                found.append(f"{named(path)} of this host is read, too: a script names it")
    return files, found


def _paths(file: File) -> Iterator[str]:
    """The paths that a script names, but for those that lead back up."""
    return (path for path in _PATH.findall(file.scanned) if not {"..", "."} & {*path.split("/")})


def _is_own(path: str) -> bool:
    """Whether it is an administrator's script, and not a program of the distribution."""
    of_distribution = ("/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/", "/usr/lib/", "/lib/")
    return not path.startswith(of_distribution) or path.endswith(".sh") or "vfio" in path
