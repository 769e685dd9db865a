# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every refusal that libhook's source can utter, with what it says to do: for the page about them."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from libhook.errors import kernel_log
from libhook.facts import remedy
from libhook.facts.config import Config
from libhook.facts.domain import Domain
from libhook.facts.event import parse
from libhook.facts.host import NOTHING
from libhook.facts.situation import Situation

TOP = Path(__file__).parents[1]
_FOLDERS = ("handlers", "kinds", "story", "effects", "look", "children", "run.py")
_NOT_AT_A_START = ("look/selinux.py", "look/ownhandlers.py", "effects/identities.py")
VARIES = "…"
_GROUPS = {
    "The device cannot be given to any guest": "handlers/preflight.py: "
    "not on this host|a bridge|IOMMU is off|no IOMMU group|not among|cannot be read",
    "An address holds another device than at the last start": "handlers/identity.py",
    "The vfio driver": "handlers/preflight.py: not a vfio driver",
    "The rest of its IOMMU group": "handlers/preflight.py: shares IOMMU group",
    "Another guest has it": "handlers/: held by the guest|given to this guest",
    "The host uses it": "handlers/preflight.py look/uses.py look/exports.py look/tenants.py: "
    "in use|is open in|VFs enabled|nodes cannot|disks",
    "Who uses it cannot be seen": "look/holders.py",
    "The audit trail is required": "handlers/audit.py",
    "The device is not on vfio, or is another one": "handlers/vfio.py",
    "A driver does not let go, or does not answer": "kinds/pci/ look/sysfs.py handlers/preflight.py",
    "Modules": "kinds/module/: module|driver|in the way",
    "Virtual consoles": "kinds/module/consoles.py",
    "Units and mount points": "kinds/unit/ look/systemd.py",
    "Values, and what guests share": "kinds/value.py kinds/claims.py kinds/claimants.py",
    "Commands and old scripts": "kinds/legacy.py kinds/run/ look/executables.py "
    "look/oldscripts.py effects/group.py effects/launch.py effects/commands.py effects/transient.py",
    "Handlers of your own": "story/consult.py",
    "What libhook keeps in /run/libhook": "story/ effects/state.py effects/locks.py",
    "Files that others may write to, or that are broken": "effects/files.py look/patient.py",
    "libhook itself": "children/ run.py handlers/registry.py hooks/qemu",
}
"""The headings of the page: what the file of a refusal begins with, and one of what its text has."""
_AROUND_OTHERS = {"…: the audit trail is required, but …", "… cannot be started: …", "….json: …", "handler …"}
"""What stands before the words of another refusal, which has an entry of its own."""
_EVENT = parse(["GUEST", "prepare", "begin", "-"])
assert _EVENT
_ANY_GUEST = Situation(_EVENT, Domain("GUEST", "", "kvm", ()), NOTHING, None, Config())
_SAID_BY = {
    "setting": lambda line=VARIES, what=VARIES: remedy.setting(_ANY_GUEST, line, what),
    "down": lambda unit=VARIES: remedy.down(_ANY_GUEST, unit),
    "consent": lambda kind=VARIES: remedy.consent(_ANY_GUEST, kind),
    "by_hand": lambda: remedy.by_hand(VARIES),
    "kernel_log": lambda: kernel_log(f"{VARIES}."),
}
"""What these functions return, for a guest called GUEST: the arguments that do not vary are given."""
_SPELT = {"shared", "hangs", "complaint"}
"""Names of the beginning of a reason, which is shown and not …."""
_ERRORS = {"LibhookError", "BadInput", "TooNew", "Refused", "DeadlineExpired", "Failed", "NoManager", "Unusable"}
_PAIRS = {"Complaint": 0, "Failure": 0, "Refusal": 1, **dict.fromkeys(_ERRORS, 0)}
"""What is made of a reason and a remedy, and which argument is the reason."""


class Said(NamedTuple):
    """A refusal, with … for what varies."""

    file: str
    reason: str
    remedies: tuple[str, ...]


class _Module:
    """The source of one module, and what the names in it stand for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text())
        self.functions = {node.name: node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)}
        self.constants = _assigned(self.tree.body)
        self.imported = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def of(self, name: str) -> _Module | None:
        """The module that a name is imported from."""
        module, _ = self.imported.get(name, ("", ""))
        path = TOP / f"{module.replace('.', '/')}.py"
        return _Module(path) if module.startswith("libhook") and path.exists() else None


def _assigned(nodes: Iterable[ast.AST]) -> dict[str, list[ast.expr]]:
    """What is assigned to each name."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                found.setdefault(name, []).append(value)
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)) if len(names) == len(values):
                _assign(found, names, values)
            case ast.FunctionDef(args=ast.arguments(posonlyargs=first, args=others, defaults=[_, *_] as values)):
                for one, value in zip([*first, *others][-len(values) :], values, strict=True):
                    found.setdefault(one.arg, []).append(value)
    return found


def _assign(found: dict[str, list[ast.expr]], names: list[ast.expr], values: list[ast.expr]) -> None:
    for one, value in zip(names, values, strict=True):
        if isinstance(one, ast.Name):
            found.setdefault(one.id, []).append(value)


def _texts(node: ast.expr | None, module: _Module, names: dict[str, list[ast.expr]]) -> list[str]:
    """The texts that an expression may be. None where they come from elsewhere."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            several = [_texts(part, module, names) for part in parts]
            return ["".join(each) for each in itertools.product(*several)]
        case ast.FormattedValue(value=value):
            return _inside(value, module, names)
        case ast.IfExp(body=one, orelse=other):
            return [*_texts(one, module, names), *_texts(other, module, names)]
        case ast.BoolOp(values=values):
            return [text for value in values for text in _texts(value, module, names)]
        case ast.Name(id=name):
            return _of_name(name, module, names)
        case ast.Attribute(attr="missing"):  # a property of State's
            return _of_call("missing", [], _Module(TOP / "libhook/effects/state.py"), {})
        case ast.Attribute(value=ast.Name(id=name), attr=attribute) if owner := _submodule(module, name):
            return _of_name(attribute, owner, {})
        case ast.Call(func=ast.Attribute(value=ast.Name() as template, attr="format")):
            return [text.replace("{}", VARIES) for text in _texts(template, module, names)]
        case ast.Call(func=ast.Attribute(value=ast.Name(id=inner), attr=name), args=args) if name not in _SAID_BY and (
            owner := _submodule(module, inner)
        ):
            return _of_call(name, args, owner, names)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args):
            return _of_call(name, args, module, names)
    return []


def _submodule(module: _Module, name: str) -> _Module | None:
    source, inner = module.imported.get(name, ("", ""))
    path = TOP / f"{source.replace('.', '/')}/{inner}.py"
    return _Module(path) if source.startswith("libhook") and path.exists() else None


def _inside(value: ast.expr, module: _Module, names: dict[str, list[ast.expr]]) -> list[str]:
    """What stands in an f-string: a constant as it is, a command as it would be, and … for anything else."""
    match value:
        case ast.Name(id=name) if name.isupper() or name.strip("_").isupper():
            return _of_name(name, module, {}) or [VARIES]
        case ast.Name(id=name) if name in _SPELT:
            return _of_name(name, module, names) or [VARIES]
        case ast.Name(id=name):
            found = [text for one in names.get(name, ()) for text in _of_commands(one, module, names)]
            return list(dict.fromkeys(found)) or [VARIES]
    return _of_commands(value, module, names) or [VARIES]


def _of_commands(value: ast.expr, module: _Module, names: dict[str, list[ast.expr]]) -> list[str]:
    match value:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args):
            if name in _SAID_BY or name in module.functions:
                return _of_call(name, args, module, names)
    return []


def _of_name(name: str, module: _Module, names: dict[str, list[ast.expr]]) -> list[str]:
    values = names.get(name) or module.constants.get(name)
    if values:
        return [text for value in values for text in _texts(value, module, {**names, name: []})]
    if owner := module.of(name):
        return _of_name(module.imported[name][1], owner, {})
    return []


def _of_call(name: str, args: list[ast.expr], module: _Module, names: dict[str, list[ast.expr]]) -> list[str]:
    if name in _SAID_BY:
        given = [(_texts(one, module, names) or [VARIES])[0] for one in args[1:]]
        return [_SAID_BY[name](*given)]  # type: ignore[operator] # each has as many as its function takes
    owner = module
    if name not in module.functions and (other := module.of(name)):
        owner = other
    if function := owner.functions.get(name):
        own = _assigned(ast.walk(function))
        return [
            text
            for node in ast.walk(function)
            if isinstance(node, ast.Return)
            for text in _texts(node.value, owner, own)
        ]
    return []


def _pairs(function: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The reasons and remedies that stand in a function, unresolved."""
    pairs = isinstance(function, ast.FunctionDef) and ast.unparse(function.returns or ast.Constant("")).startswith(
        "tuple[str, str]"
    )
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(id=name), args=args) if name in _PAIRS:
                if len(own := args[_PAIRS[name] :]) >= 2 and not isinstance(own[0], ast.Starred):
                    yield own[0], own[1]
            case ast.Return(value=ast.Tuple(elts=[reason, what])) if pairs:
                yield reason, what
            case ast.Assign(targets=[ast.Name(id="complaint")], value=ast.Tuple(elts=[reason, what])):
                yield reason, what


@functools.cache
def every() -> list[Said]:
    """All of them, file by file, as they stand there."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for path in _files():
        module, name = _Module(path), path.relative_to(TOP / "libhook").as_posix()
        for function in (node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef)):
            names = _assigned(ast.walk(function))
            for reason, what in _pairs(function):
                remedies = [_short(text) for text in _texts(what, module, names)]
                for text in map(_short, _texts(reason, module, names)):
                    if text.strip(f"{VARIES} :()") and text not in _AROUND_OTHERS:
                        found.setdefault((name, text), {}).update(dict.fromkeys(remedies))
    return [
        *(Said(file, reason, tuple(remedies)) for (file, reason), remedies in found.items()),
        *_of_launcher(),
    ]


def _of_launcher() -> Iterator[Said]:
    """What hooks/qemu says by itself."""
    text = (TOP / "hooks/qemu").read_text()
    for line in re.findall(r'^\s*(?:said|unable)="(\w[^"]*: [^"]*)"', text, flags=re.M):
        reason, _, what = re.sub(r"\$\{[^}]*\}|\$\(\([^)]*\)\)|\$\w+", VARIES, line).rpartition(": ")
        yield Said("hooks/qemu", _short(reason), (what,))


def _short(text: str) -> str:
    while VARIES * 2 in text:
        text = text.replace(VARIES * 2, VARIES)
    return text


def _files() -> Iterator[Path]:
    for folder in _FOLDERS:
        path = TOP / "libhook" / folder
        for one in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if not one.as_posix().endswith(_NOT_AT_A_START):
                yield one


def page(text: str) -> str:
    """Return docs/refusals.md with its lists made anew; what stands above a list is the page's own."""
    by_group: dict[str, dict[str, dict[str, None]]] = {}
    for said in every():
        group = next(
            title
            for title, (where, _, parts) in ((title, one.partition(": ")) for title, one in _GROUPS.items())
            if said.file.startswith(tuple(where.split())) and any(part in said.reason for part in parts.split("|"))
        )
        by_group.setdefault(group, {}).setdefault(said.reason, {}).update(dict.fromkeys(map(_shown, said.remedies)))
    first, *sections = text.split("\n## ")
    made = [first]
    for section in sections:
        title, meaning = section.partition("\n\n- ")[0].split("\n\n")
        lines = [
            line
            for reason, remedies in by_group.pop(title).items()
            for line in (f"- `{reason}`", *(f"  - {one}" for one in remedies or ("the line says what to do",)))
        ]
        made.append("\n".join((title, "", meaning, "", *lines, "")))
    assert by_group == {}, "the page has no such headings"
    return "\n## ".join(made)


def _shown(remedy: str) -> str:
    """With its command as code, and the setting that consents."""
    before, run, command = remedy.partition("run: ")
    text = f"{before}{run}`{command}`" if run else remedy
    text = text.replace("<driver model=...>", "`<driver model=...>`")
    consents = re.search(r"\.(siblings|preflight\.\S+|end) = (\S+)'", remedy)
    return f"{text}. Consents: `{consents[1]} = {consents[2]}`" if consents else text
