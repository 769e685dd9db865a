# SPDX-License-Identifier: LGPL-2.1-or-later
"""What Python imports for an event: no more than that needs, since somebody waits for it."""

import subprocess
from pathlib import Path

from scenario import reap

from libhook.simulation.build import build
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import nic

TOP = Path(__file__).parents[2]
LIFE = ("prepare", "start", "started", "release")
SLOW = {
    *("typing", "re", "enum", "json", "collections", "contextlib", "functools", "types", "fnmatch", "dataclasses"),
    *("tomllib", "inspect", "ctypes", "socket", "argparse", "subprocess", "lxml", "structlog", "audit"),
}
"""Each takes between a tenth and several times what Python itself takes to start."""
OF_PREPARE = {
    *(f"libhook.look.{name}" for name in ("uses", "exports", "tenants")),
    "libhook.handlers.preflight",
}
NOT_OF_RELEASE = {
    *(f"libhook.story.{name}" for name in ("entries", "reading", "serving", "taking")),
    "libhook.children.telling",
}
NOT_OF_A_START = {"libhook.handlers.audit", "libhook.facts.identity", "libhook.story.identities"}
"""Of one whose settings do not require the trail, of a guest that has not started before."""
KINDS = {f"libhook.kinds.{name}" for name in ("module", "value", "claims", "resource")}
LOADING = {"libhook.kinds.module"}
"""Of what the guest does not have: on that host, only prepare has a module to load."""
RARE = {
    "libhook.facts.joined",
    "libhook.facts.remedy",
    "libhook.handlers.host",
    "libhook.story.foresight",
    "libhook.look.openfiles",
    "libhook.xml.domxml",
    "libhook.xml.lean",
}
GUEST = Guest(devices=(Assigned(nic().devices[0].address),))


def _imported(root: str, operation: str, xml: bytes = b"", code: int = 0) -> set[str]:
    program = str(TOP / "tests" / "imports.py")
    command = ["/usr/bin/python3", "-I", "-S", program, str(TOP), GUEST.name, operation, "begin", "-"]
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "LIBHOOK_ROOT": root}
    xml = xml or GUEST.xml(1, prepared=operation != "prepare")
    done = subprocess.run(command, input=xml, stdout=subprocess.PIPE, env=environment, timeout=60, check=False)
    assert reap(60)
    assert done.returncode == code
    return set(done.stdout.decode().split())


def test_an_event_imports_no_more_than_it_needs(root: str) -> None:
    """Of a whole life: only prepare looks at what the host does with a device; the XML is read by a child."""
    build(root, nic())
    for operation in LIFE:
        found = _imported(root, operation)
        assert {"os", "libhook.run", "libhook.kinds.registry"} <= found
        assert found & (SLOW | RARE) == set()
        assert KINDS & found == (LOADING if operation == "prepare" else set())
        assert (NOT_OF_RELEASE & found == set()) if operation == "release" else (found >= NOT_OF_RELEASE)
        assert (found >= OF_PREPARE) if operation == "prepare" else (OF_PREPARE & found == set())
        assert operation not in ("prepare", "start") or NOT_OF_A_START & found == set()
        assert not [name for name in found if name.startswith(("libhook.simulation", "libhook.hotplug"))]


def test_what_is_imported_for_a_good_reason_is_seen(root: str) -> None:
    """A configuration; a document that no child could read: what looks for it above would find it."""
    build(root, nic())
    assert {"lxml", "lxml.etree", "re", "libhook.xml.domxml"} <= _imported(root, "start", b"<domain", code=1)
    Path(root, "etc/libhook").mkdir(parents=True, exist_ok=True)
    Path(root, "etc/libhook/config.toml").write_text('[values]\n"vm.swappiness" = 10\n')
    assert {"tomllib", "re", "typing", "libhook.kinds.value"} <= _imported(root, "prepare", code=1)


def test_settings_import_tomllib_and_what_reads_them(root: str) -> None:
    """Words about errors are for errors, and patterns for sections that are some. Without settings, nothing of it."""
    build(root, nic())
    reading = {f"libhook.{name}" for name in ("facts.settings", "facts.keys", "facts.merged", "story.settings")}
    rare = {"difflib", "fnmatch", *(f"libhook.facts.{name}" for name in ("places", "complaints", "syntax", "template"))}
    assert _imported(root, "prepare") & {*reading, *rare} == set()
    settings = Path(root, "etc/libhook/config.d/a.toml")
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(f"[devices.network]\nholder_wait = 1\n[domains.{GUEST.name}]\nwrite_deadline = 20\n")
    found = _imported(root, "start")
    assert {"tomllib", *reading} <= found
    assert found & (rare | SLOW - {"tomllib", "typing", "re", "enum", "collections", "functools", "types"}) == set()
    settings.write_text('[values]\n"vm.x" = "{name}"\n')
    assert "libhook.facts.template" in _imported(root, "start")
    settings.write_text("[domains.'w*']\ncolour = 1\n")
    assert {"difflib", "fnmatch", "libhook.facts.places", "libhook.facts.complaints"} <= _imported(
        root, "start", code=1
    )


def test_escaping_imports_no_codec() -> None:
    """Each plan that unsets an override has a line feed to show."""
    code = f"import sys; sys.path.insert(0, {str(TOP)!r}); from libhook.errors import printable; "
    code += r"print(printable('a\n\udcff'), 'encodings.unicode_escape' in sys.modules)"
    done = subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
    assert done.stdout == b"a\\n\\udcff False\n"


def test_hotplug_asks_handlers_by_others_only_where_some_are_wanted() -> None:
    """So it does not import what asks them."""
    code = f"import sys; sys.path.insert(0, {str(TOP)!r}); import libhook.hotplug.plug, libhook.hotplug.unplug; "
    code += "print('libhook.story.consult' in sys.modules)"
    done = subprocess.run(["/usr/bin/python3", "-I", "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
    assert done.stdout == b"False\n"


def test_handlers_by_others_cost_only_who_wants_them(root: str) -> None:
    """Where another guest wants one, nothing of it is imported; where this one does, nothing slow."""
    build(root, nic())
    theirs = {f"libhook.{name}" for name in ("story.consult", "facts.answer", "children.confined", "children.hosted")}
    settings = Path(root, "etc/libhook/config.toml")
    settings.write_text("[domains.other.handlers.night]\n")
    for operation in LIFE:
        assert _imported(root, operation) & theirs == set()
    settings.write_text(f"[domains.{GUEST.name}.handlers.night]\n")
    found = _imported(root, "prepare", code=1)
    assert theirs <= found
    assert found & (SLOW - {"tomllib", "typing", "re", "enum", "collections", "functools", "types"}) == set()
    assert "resource" not in found
