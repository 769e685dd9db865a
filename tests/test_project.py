# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules for the source as it stands: licences, lengths, who imports and calls what, and what an event may import."""

import ast
import configparser
import subprocess
from functools import cache
from pathlib import Path

import pytest
from scenario import reap

from libhook import __version__
from libhook.simulation.build import build
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import nic

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "libhook"
SPDX = "SPDX-License-Identifier: LGPL-2.1-or-later"
PAGES = {"LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"}
SOURCE_LINES = 330  # "about 300"
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
    ("hotplug", "history"),
    ("command", "cli", "__main__"),
)
"""From what imports nothing to what imports all: the folders are the flow, read backwards."""
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
KIT = ("simulation/", "testing/", "pytest_plugin.py")
OURS = [name for name in FILES if not name.startswith(KIT) and name != "__init__.py"]
OF_ALL_KINDS = {"__init__", "kind", "registry", "claimants", "claims", "resource", "command"}
"""What stands in kinds/ and is none of them."""
KINDS = {path.stem for path in (PACKAGE / "kinds").iterdir() if path.name[0].isalpha()} - OF_ALL_KINDS


def _sources() -> list[Path]:
    """Give every source file that is, or is about to be, tracked."""
    git = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git clone")
    paths = [Path(name) for name in listed.splitlines() if name not in PAGES and (ROOT / name).is_file()]
    return [path for path in paths if "data" not in path.parts and path.suffix in {"", ".py", ".sh", ".toml", ".cfg"}]


def test_every_source_file_names_its_license_first() -> None:
    """The SPDX line is the first of each source file, or the second after a #! line."""
    texts = {path: (ROOT / path).read_text(errors="replace") for path in _sources()}
    assert [path for path, text in texts.items() if text and SPDX not in "".join(text.splitlines()[:2])] == []


def test_no_source_file_grows_past_what_is_read_in_one_sitting() -> None:
    """Python and shell files but those of tests stay under about 300 lines."""
    lines = {path: (ROOT / path).read_bytes().count(b"\n") for path in _sources() if path.parts[0] != "tests"}
    assert {path: count for path, count in lines.items() if count > SOURCE_LINES} == {}


def test_the_version_is_the_same_in_both_places() -> None:
    """What pip installs and what ``libhook --version`` says do not differ."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    assert parser["metadata"]["version"] == __version__


@cache
def _nodes(name: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(FILES[name].read_text())))


@cache
def _imports(name: str) -> set[str]:
    """Every module that a file imports, and all they are in, wherever in it; what is only for the type checker too."""
    found = {alias.name for node in _nodes(name) if isinstance(node, ast.Import) for alias in node.names}
    for node in _nodes(name):
        if isinstance(node, ast.ImportFrom):
            assert node.module, f"{name} imports relatively"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {".".join(parts[:end]) for one in found for parts in [one.split(".")] for end in range(1, len(parts) + 1)}


def test_imports_point_one_way() -> None:
    """No file imports from a later layer, and each is in one."""
    layers = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    own = {name: layers.get(name.split("/")[0].removesuffix(".py"), -1) for name in OURS}
    later = {
        name: [part for part, layer in layers.items() if layer > own[name] and f"libhook.{part}" in _imports(name)]
        for name in OURS
    }
    assert {name: parts for name, parts in later.items() if parts or own[name] < 0} == {}


def _kinds(*but: str) -> set[str]:
    return {f"libhook.kinds.{kind}" for kind in KINDS - {*but}}


MACHINE = {"os", "fcntl", "socket", "select", "shutil", "subprocess", "signal", "pathlib", "tempfile", "ctypes", "io"}
MAY_TOUCH = ("bundle.py", "children/", "effects/", "look/", "kinds/", "cli.py", "command/", "hotplug/hypervisor.py",
             "hotplug/watching.py", "hotplug/interrupts.py", "hotplug/notify.py", "history/reader.py",
             "history/order.py", "history/command.py", "history/follow.py", "history/tail.py", "history/cursor.py",
             "history/beside.py", "history/aside.py")  # fmt: skip
BESIDE_HISTORY = {f"libhook.{part}" for layer in LAYERS for part in layer} - {"libhook.history", "libhook.errors"}
EVERYBODY = ("",)
RULES = {
    "facts, XML and handlers are pure": (("facts/", "xml/", "handlers/"), {"libhook.effects", "libhook.look"}, ()),
    "the machine": (EVERYBODY, MACHINE, MAY_TOUCH),
    "kinds": (EVERYBODY, _kinds(), ("kinds/", "handlers/vfio.py")),
    "kinds that a handler asks for": (("handlers/vfio.py",), _kinds("pci", "module"), ()),
    **{f"kinds besides {one}": ((f"kinds/{one}.py", f"kinds/{one}/"), _kinds(one), ()) for one in sorted(KINDS)},
    "what history does without": (("history/",), BESIDE_HISTORY, ("history/names.py",)),
    "what names of devices do without": (("history/names.py",), BESIDE_HISTORY - {"libhook.naming"}, ()),
    "history": (EVERYBODY, {"libhook.history"}, ("history/", "command/parsing.py", "command/remembered.py")),
    "lxml": (EVERYBODY, {"lxml"}, ("xml/backdoor.py", "xml/domxml.py", "xml/hostdevxml.py", "xml/lean.py")),
    "structlog": (EVERYBODY, {"structlog"}, ("effects/log.py",)),
    "libvirt": (EVERYBODY, {"libvirt"}, ("hotplug/hypervisor.py", "hotplug/watching.py")),
    "programs": (
        EVERYBODY,
        {"subprocess", "shlex", "pickle"},
        ("command/virsh.py", "command/installation.py"),
    ),
    "the simulation": (EVERYBODY, {"libhook.simulation"}, ("cli.py", "command/commands.py")),
    "the test kit": (EVERYBODY, {"libhook.testing", "libhook.pytest_plugin"}, ("testing/", "pytest_plugin.py")),
}
"""Files that begin so do not import these modules, but for some, of which each needs its exception."""


@pytest.mark.parametrize("rule", RULES)
def test_who_may_import(rule: str) -> None:
    """Nobody else, and an exception that nobody needs any more is none."""
    whose, modules, but = RULES[rule]
    names = FILES if rule == "the test kit" else OURS
    named = {name: found for name in names if name.startswith(whose) and (found := _imports(name) & modules)}
    assert {name: found for name, found in named.items() if not name.startswith(but)} == {}
    assert [one for one in but if not any(name.startswith(one) for name in named)] == []


@pytest.mark.parametrize(
    ("calls", "may"),
    [
        ({"open"}, (*MAY_TOUCH, "naming/database.py")),
        ({"print", "sys.exit", "exit", "quit", "breakpoint"}, ("cli.py", "command/commands.py", "command/terminal.py")),
        ({"os._exit"}, ("cli.py", "children/child.py", "history/aside.py")),
    ],
    ids=["opens a file", "exits or prints", "ends a child"],
)
def test_who_may_call(calls: set[str], may: tuple[str, ...]) -> None:
    """Whoever else ends the process, or prints, takes libvirt's answer out of one place."""
    assert {
        f"{name}, line {node.lineno}"
        for name in OURS
        if not name.startswith(may)
        for node in _nodes(name)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in calls
    } == set()


def test_the_hook_cannot_ask_libvirt() -> None:
    """It would deadlock: what the hook imports, wherever and however deep, does not reach what asks libvirt."""
    reached, new = set(), {"run.py", "look/linux.py"}
    while new:
        reached |= new
        modules = {module.removeprefix("libhook.") for name in new for module in _imports(name)}
        new = {path for module in modules if (path := f"{module.replace('.', '/')}.py") in FILES} - reached
    assert "effects/kernel.py" in reached
    assert [name for name in reached if name.startswith(("hotplug/", "history/"))] == []


SLOW = {
    *("typing", "re", "enum", "json", "collections", "contextlib", "functools", "types", "fnmatch", "dataclasses"),
    *("tomllib", "inspect", "ctypes", "socket", "argparse", "subprocess", "lxml", "structlog", "audit", "difflib"),
    *("asyncio", "concurrent", "logging", "resource", "shutil", "ssl", "tempfile", "threading"),
    *(f"libhook.{name}" for name in ("handlers.preflight", "story.consult", "xml.domxml")),
    *(f"libhook.kinds.{kind}" for kind in ("module", "value")),
}
"""Each takes between a tenth and several times what Python itself takes to start; some of ours are few events' need."""
OF_SETTINGS = {"tomllib", "typing", "re", "enum", "collections", "functools", "types"}
OF_PREPARE = {"libhook.handlers.preflight", "libhook.kinds.module"}
"""It looks at what the host does with a device, and has a module to load."""
OWN = f"[domains.{(GUEST := Guest(devices=(Assigned(nic().devices[0].address),))).name}"
BUDGET: dict[str, tuple[str, str, set[str]]] = {
    "prepare": ("prepare", "", OF_PREPARE),
    **{operation: (operation, "", set()) for operation in ("start", "started", "release")},
    **{
        operation: (operation, "by hand", set())
        for operation in ("stopped", "migrate", "restore", "attach", "nonsense")
    },
    "settings": (
        "prepare",
        f"[devices.network]\nholder_wait = 1\n{OWN}]\nwrite_deadline = 20\n",
        OF_SETTINGS | OF_PREPARE,
    ),
    "wrong settings": ("prepare", "colour = 1\n", {*OF_SETTINGS, "difflib"}),
    "a value": ("prepare", '[values]\n"vm.swappiness" = 10\n', {*OF_SETTINGS, *OF_PREPARE, "libhook.kinds.value"}),
    "a handler of another guest's": ("prepare", "[domains.other.handlers.night]\n", OF_SETTINGS | OF_PREPARE),
    "a handler": ("prepare", f"{OWN}.handlers.night]\n", {*OF_SETTINGS, *OF_PREPARE, "libhook.story.consult"}),
    "no XML": ("start", "no XML", {*OF_SETTINGS - {"tomllib"}, "lxml", "libhook.xml.domxml"}),
}
"""An event, its guest's settings, and what of that it may import: what waits for it is somebody."""


@pytest.mark.parametrize("case", BUDGET)
def test_an_event_imports_no_more_than_it_needs(root: str, case: str) -> None:
    """What the hook's own process imports; the XML is read, and the log is written, by a child."""
    operation, settings, wanted = BUDGET[case]
    build(root, nic())
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "LIBHOOK_ROOT": root}
    if settings == "by hand":
        environment["LIBHOOK_DRY_RUN"] = "1"
    elif settings and settings != "no XML":
        Path(root, "etc/libhook").mkdir(parents=True, exist_ok=True)
        Path(root, "etc/libhook/config.toml").write_text(settings)
    program = ["/usr/bin/python3", "-I", "-S", str(ROOT / "tests/imports.py"), str(ROOT), GUEST.name]
    earlier = ("prepare", "start", "started", "release")
    for step in (*earlier[: earlier.index(operation) if operation in earlier and not settings else 0], operation):
        xml = b"<domain" if settings == "no XML" else GUEST.xml(1, prepared=step != "prepare")
        done = subprocess.run(
            [*program, step, "begin", "-"], input=xml, stdout=subprocess.PIPE, env=environment, timeout=600, check=False
        )
        assert reap(60)
    found = set(done.stdout.decode().split())
    assert {"os", "libhook.run"} <= found
    assert found & SLOW == wanted


@pytest.mark.parametrize(
    ("code", "never"),
    [
        (
            "from libhook.command.parsing import parser; parser()",
            {"lxml", "libhook.story", "libhook.kinds", "libhook.history.command", "libhook.hotplug.plug",
             "libhook.command.commands", "libhook.command.looking"},
        ),
        (r"from libhook.errors import printable; printable('a\n\udcff')", {"encodings.unicode_escape"}),
        ("import libhook.hotplug.plug, libhook.hotplug.unplug", {"libhook.story.consult"}),
    ],
    ids=["a command line, no command", "escaping, no codec", "hot-plug, no handlers of others"],
)  # fmt: skip
def test_what_is_not_called_is_not_imported(code: str, never: set[str]) -> None:
    """Or everything would wait for it."""
    words = ["/usr/bin/python3", "-c", f"import sys; {code}; print(*sys.modules)"]
    loaded = set(subprocess.check_output(words, cwd=ROOT, text=True, timeout=600).split())
    assert "libhook" in loaded
    assert loaded & never == set()
