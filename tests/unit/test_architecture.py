# SPDX-License-Identifier: LGPL-2.1-or-later
"""Imports point one way, and only who is meant to touches the machine."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from libhook.facts import keys
from libhook.kinds.registry import _SETTINGS

PACKAGE = Path(__file__).parents[2] / "libhook"
LAYERS = (
    ("light", "bundle", "handler"),
    ("errors", "plainjson"),
    ("facts",),
    ("xml",),
    ("children",),
    ("effects",),
    ("look",),
    ("kinds",),
    ("handlers",),
    ("story", "run"),
    ("naming",),
    ("hotplug", "history", "importing"),
    ("command", "cli", "__main__"),
)
"""From what imports nothing to what imports all: the folders are the flow, read backwards."""
MACHINE = {"os", "fcntl", "socket", "select", "shutil", "subprocess", "signal", "pathlib", "tempfile", "ctypes", "io"}
MAY_TOUCH = ("bundle.py", "children/", "effects/", "look/", "kinds/", "cli.py", "command/", "hotplug/hypervisor.py",
             "hotplug/watching.py", "hotplug/interrupts.py", "hotplug/notify.py", "history/reader.py",
             "naming/database.py",
             "history/order.py", "history/command.py", "history/follow.py", "history/tail.py", "history/cursor.py",
             "history/beside.py", "history/aside.py",
             "importing/command.py", "importing/excess.py", "importing/filling.py", "importing/folder.py",
             "importing/imagined.py", "importing/inside/", "importing/reading.py", "importing/sandbox.py",
             "importing/sources.py")  # fmt: skip
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
KIT = ("simulation/", "testing/", "pytest_plugin.py")
OURS = [name for name in FILES if not name.startswith(KIT) and name != "__init__.py"]


def _imports(name: str) -> Iterator[str]:
    """Every module that a file imports, wherever in it; what is only for the type checker too."""
    for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _libhook(name: str) -> set[str]:
    """The modules and folders of libhook that a file imports, by their first name."""
    inner = (module.split(".")[1] for module in _imports(name) if module.startswith("libhook."))
    return {part for part in inner if (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").exists()}


def _layer(part: str) -> int:
    found = [number for number, layer in enumerate(LAYERS) if part in layer]
    assert found, f"{part} stands in no layer: add it to LAYERS where it belongs"
    return found[0]


@pytest.mark.parametrize("name", OURS)
def test_imports_point_one_way(name: str) -> None:
    """No file imports from a later layer."""
    own = _layer(name.split("/")[0].removesuffix(".py"))
    later = {part for part in _libhook(name) - {"simulation"} if _layer(part) > own}
    assert later == set()


@pytest.mark.parametrize("name", [name for name in OURS if name.startswith(("facts/", "xml/", "handlers/"))])
def test_policy_is_pure(name: str) -> None:
    """Facts, the reader of XML and the handlers neither look at the machine nor touch it."""
    assert _libhook(name) & {"effects", "look"} == set()


@pytest.mark.parametrize("name", [name for name in OURS if not name.startswith(MAY_TOUCH)])
def test_only_who_is_meant_to_touches_the_machine(name: str) -> None:
    """Elsewhere no file is opened, no process started, no clock waited for."""
    assert {module.split(".")[0] for module in _imports(name)} & MACHINE == set()
    calls = (node for node in ast.walk(ast.parse((PACKAGE / name).read_text())) if isinstance(node, ast.Call))
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "open"]


OF_ALL_KINDS = {"kind", "registry", "claimants", "claims", "resource", "command", "naming", "lasting"}
"""What stands in kinds/ and is none of them."""


@pytest.mark.parametrize("name", [name for name in OURS if not name.startswith("kinds/")])
def test_nobody_names_a_kind(name: str) -> None:
    """A new kind is a file and a line of the registry. A handler of ours names the kind that it asks for."""
    kinds = {module.split(".")[2] for module in _imports(name) if module.startswith("libhook.kinds.")}
    asks_for = {"handlers/vfio.py": {"pci", "module"}}.get(name, set())
    assert kinds - OF_ALL_KINDS == asks_for


def test_a_kind_names_no_other() -> None:
    """But the registry, which lists them."""
    registry = PACKAGE / "kinds" / "registry.py"
    found = {path.relative_to(PACKAGE / "kinds").parts[0].removesuffix(".py") for path in registry.parent.rglob("*.py")}
    for kind in found - OF_ALL_KINDS - {"__init__"}:
        for name in FILES:
            if name.startswith((f"kinds/{kind}.py", f"kinds/{kind}/")):
                named = {module.split(".")[2] for module in _imports(name) if module.startswith("libhook.kinds.")}
                assert named <= {*OF_ALL_KINDS, kind}


def test_each_setting_of_a_kind_is_known() -> None:
    """The registry says which kind a key asks for, and the settings check its value."""
    assert {key for asking in _SETTINGS.values() for key in asking} == set(keys.OF_KINDS) - {"handlers"}


@pytest.mark.parametrize("name", [name for name in OURS if name.startswith("history/")])
def test_history_stands_alone(name: str) -> None:
    """Reading the trail needs nothing of handing devices over; and of the rest, only the command knows it."""
    assert _libhook(name) <= {"history", "errors", *({"naming"} if name == "history/names.py" else set())}


READ_BACK = ("command/parsing.py", "command/remembered.py")


@pytest.mark.parametrize("name", [name for name in OURS if name not in READ_BACK])
def test_only_the_command_reads_the_trail_back(name: str) -> None:
    """The hook pays nothing for it."""
    assert name.startswith("history/") or "history" not in _libhook(name)


def test_only_the_reader_of_xml_needs_lxml() -> None:
    """And it is imported where there is something to do, since it costs twice a start of Python."""
    readers = [name for name in FILES if any(module.split(".")[0] == "lxml" for module in _imports(name))]
    assert readers == ["xml/backdoor.py", "xml/domxml.py", "xml/hostdevxml.py", "xml/lean.py"]
    top = ast.parse((PACKAGE / "run.py").read_text()).body
    imported = {alias.name for node in top if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert "domxml" not in imported


def test_only_the_log_needs_structlog() -> None:
    """In its child: it takes several times a start of Python."""
    assert [name for name in FILES if any(module.startswith("structlog") for module in _imports(name))] == [
        "effects/log.py"
    ]
    top = ast.parse((PACKAGE / "effects" / "log.py").read_text()).body
    assert not [node for node in top if isinstance(node, ast.Import) and node.names[0].name == "structlog"]


@pytest.mark.parametrize("name", OURS)
def test_no_shell(name: str) -> None:
    """Nothing is run but modprobe, rmmod and systemctl; by some commands the hook, a sandbox, or virsh."""
    own = ("command/virsh.py", "command/installation.py", "importing/sandbox.py", "importing/inside/director.py")
    may = {"subprocess"} if name in own else set()
    assert {module.split(".")[0] for module in _imports(name)} & {"subprocess", "shlex", "pickle"} == may


def test_the_hook_cannot_ask_libvirt() -> None:
    """It would deadlock: what the hook imports, wherever and however deep, does not reach libvirt's API."""
    reached, new = set(), {"run.py", "look/linux.py"}
    while new:
        reached |= new
        modules = {module for name in new for module in _imports(name) if module.startswith("libhook.")}
        paths = {module.removeprefix("libhook.").replace(".", "/") + ".py" for module in modules}
        new = {path for path in paths if path in FILES} - reached
    assert "effects/kernel.py" in reached
    asking = {name for name in FILES if any(module.split(".")[0] == "libvirt" for module in _imports(name))}
    assert asking == {"hotplug/hypervisor.py", "hotplug/watching.py"}
    assert reached & asking == set()
    assert not [name for name in reached if name.startswith(("hotplug/", "history/", "importing/"))]


@pytest.mark.parametrize("name", [name for name in OURS if name not in ("cli.py", "command/commands.py")])
def test_only_the_command_knows_the_simulation(name: str) -> None:
    """The real thing does not depend on what plays it. Import plays itself, on a host that it makes up."""
    if name.startswith("importing/"):
        return
    assert "simulation" not in _libhook(name)


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(("testing/", "pytest_plugin.py"))])
def test_only_tests_know_the_kit(name: str) -> None:
    """What tests import is no part of anything else."""
    assert _libhook(name) & {"testing", "pytest_plugin"} == set()


@pytest.mark.parametrize("name", OURS)
def test_only_the_command_exits_and_prints(name: str) -> None:
    """Whoever else ends the process, or prints, takes libvirt's answer out of one place."""
    if name in ("cli.py", "command/commands.py", "command/terminal.py"):
        return
    for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "sys.exit", "exit", "quit", "breakpoint")
            assert called != "os._exit" or name in ("children/child.py", "history/aside.py"), "a child does"
