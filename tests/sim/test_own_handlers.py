# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handlers by others: what they are asked, and what becomes of their answers."""

import json
from pathlib import Path
from unittest import mock

import pytest
from cases import NIC
from command import libhook
from own import SWAPPINESS, WANTS, code, enabled, host, patient, swappiness
from scenario import Host, guest
from test_run import LIGHT, argvs

from libhook.facts import ownhandler
from libhook.simulation import commands
from libhook.simulation.guests import Guest

WIN11, PLAIN = guest(NIC), Guest("win11", ())
SETS = code('return {"settings": {"values": {"vm.swappiness": 10}}}')
NIGHT = "/etc/libhook/handlers/night.py"
LIFE = '"prepare", "start", "started", "release"'


def _given(own: Host, operation: str) -> dict[str, object]:
    """What a handler is given at an operation, as it warns of that."""
    outcome = own.event(WIN11, operation)
    (line,) = (line for line in outcome.plan if "handler night: " in line)
    found: dict[str, object] = json.loads(line.partition("handler night: ")[2])
    return found


@pytest.mark.parametrize("which", [WIN11, PLAIN], ids=["device", "none"])
def test_what_a_handler_sets_holds_while_the_guest_runs(root: str, which: Guest) -> None:
    """The dry run says so; the guest's end gives back what was there before. It needs no host device."""
    own = host(root)
    enabled(own, SETS)
    foretold = own.call(("win11", "prepare", "begin", "-"), which.xml(1, False), dry_run=True)
    assert foretold.stderr[:2] == ("warning: handler night sets values", f'set {SWAPPINESS} to "10"')
    planned = libhook(own, "plan", "-", stdin=which.xml(1, False))
    assert planned.out.splitlines()[0] == foretold.stderr[0]
    assert "handlers by others 2 s" in planned.out
    assert swappiness(own) == "60"
    own.begin(which)
    assert swappiness(own) == "10"
    assert "  handler night sets values" in libhook(own, "status").out.splitlines()
    own.event(which, "release", "shutdown")
    assert swappiness(own) == "60"
    assert own.leftovers == []


def test_a_guest_that_wants_none_is_not_asked_about(root: str) -> None:
    """The handler is enabled, and another guest's section wants it."""
    own = host(root, "[domains.other.handlers.night]\n")
    enabled(own, SETS)
    own.begin(WIN11)
    assert swappiness(own) == "60"


def test_what_it_is_given(root: str) -> None:
    """The guest, its devices, its XML, the options, the time; nothing of on_fault."""
    own = host(root, '[handlers.night]\non_fault = "skip"\nbegins = 22\n')
    body = 'given["document"] = "win11" in given["document"]\nimport json\nreturn {"warn": [json.dumps(given)]}'
    enabled(own, code(body, LIFE))
    found = _given(own, "prepare")
    time = found.pop("time")
    assert isinstance(time, dict)
    assert time.keys() == {"epoch", "local"}
    device = {
        "address": NIC, "type": "pci", "managed": False, "ids": "8086:10d3", "class": "network", "class_code": "0200",
        "driver": "e1000e", "pf": "",
    }  # fmt: skip
    assert found.pop("devices") == [device]
    assert found == {
        "version": 1,
        "operation": "prepare",
        "guest": {"name": "win11", "uuid": WIN11.uuid},
        "document": True,
        "options": {"begins": 22},
        "settled": {},
    }
    for operation in ("start", "started", "release"):
        later = _given(own, operation)
        assert (later["operation"], later["document"]) == (operation, True)
        assert isinstance(later["devices"], list)
        assert [one["address"] for one in later["devices"]] == [NIC]


def test_a_refusal_is_the_guests_or_a_devices(root: str) -> None:
    """With its remedy; the record of the failure is written; and the next start may succeed."""
    own = host(root)
    one = f'{{"device": "{NIC}", "reason": "it is night", "remedy": "wait"}}'
    enabled(own, code(f'return {{"refuse": [{one}]}}'))
    outcome = own.event(WIN11, "prepare")
    assert (outcome.code, outcome.line) == (1, "handler night: it is night: wait")
    assert own.records == [f"start {NIC} failed"]
    own.event(WIN11, "release", "failed")
    enabled(own, code('return {"refuse": "never", "remedy": "use another host"}'))
    assert own.event(WIN11, "prepare").line == "handler night: never: use another host"
    own.event(WIN11, "release", "failed")
    enabled(own, code('return {"refuse": "never"}', '"start",'))
    assert own.event(WIN11, "prepare").code == 0
    assert own.event(WIN11, "start").line == "handler night: never: it says no more; it is in /etc/libhook/handlers"
    own.event(WIN11, "release", "failed")
    assert own.leftovers == []


@pytest.mark.parametrize("at", ["start", "started"])
def test_what_it_sets_at_prepare_is_kept_for_the_start(root: str, at: str) -> None:
    """A command of the start is run as it was settled, though the handler is gone by then, and the settings too."""
    own = host(root)
    commands.add(root, LIGHT)
    command = {"command": [LIGHT], "at": at, "undo": [LIGHT, "off"]}
    enabled(own, code(f'return {{"settings": {{"run": {{"one": {command}}}}}}}'))
    foretold = own.call(("win11", "prepare", "begin", "-"), WIN11.xml(1, False), dry_run=True).stderr
    assert any(f"run {LIGHT}, for 30 s at most" in line for line in foretold)
    outcome = own.event(WIN11, "prepare")
    assert (outcome.code, argvs(own)) == (0, [])
    assert outcome.journal[WIN11.uuid].settled == {"night": {"run": {"one": command}}}
    Path(f"{root}{NIGHT}").unlink()
    own.configure("")
    assert own.event(WIN11, "start").code == 0
    assert argvs(own) == [[LIGHT]] * (at == "start")
    foretold = own.call(("win11", "started", "begin", "-"), WIN11.xml(1, True), dry_run=True).stderr
    assert any(f"run {LIGHT}, for 30 s at most" in line for line in foretold) == (at == "started")
    own.event(WIN11, "started")
    own.event(WIN11, "release", "shutdown")
    assert argvs(own) == [[LIGHT], [LIGHT, "off"]]
    assert own.leftovers == []


@pytest.mark.parametrize("operation", ["start", "started"])
def test_a_broken_entry_says_nothing_more(root: str, operation: str) -> None:
    """What no handler may set is not believed of the journal, either: it refuses, or is in the way of no record."""
    own = host(root)
    enabled(own, SETS)
    entry = own.event(WIN11, "prepare").journal[WIN11.uuid]
    own.state.save(entry._replace(settled={"night": {"take_along": ["0000:05:00.0"]}}))
    outcome = own.event(WIN11, operation)
    assert outcome.code == (1 if operation == "start" else 0)
    said = "the journal entry of the guest win11: settings has 'take_along'; "
    if operation == "start":
        assert outcome.line.startswith(said)
        assert outcome.line.endswith(": start the guest again")
    else:
        (logged,) = outcome.logged("what handlers set is not known")
        assert logged["reason"].startswith(said)
        assert not outcome.logged("failed")
        assert own.records == [f"start {NIC} success"]


def test_handlers_are_asked_in_the_order_of_their_needs(root: str) -> None:
    """Each is given the answers of those that provide what it needs; one that needs what nobody provides fails."""
    own = host(root, f"{WANTS}[domains.win11.handlers.after]\n[domains.win11.handlers.zero]\n")
    enabled(own, code('return {"settings": {"values": {"vm.swappiness": 10}}}', more=', provides=("pages",)'), "zero")
    tells = 'import json\nreturn {"warn": [json.dumps(given["settled"])]}'
    enabled(own, code(tells, more=', needs=("pages",), provides=("more",)'), "night")
    enabled(own, code(tells, more=', needs=("more", "pages")'), "after")
    first, *lines = [line for line in own.event(WIN11, "prepare").plan if "handler " in line]
    assert first == "warning: handler zero sets values"
    zero = {"warn": [], "settings": {"values": {"vm.swappiness": 10}}}
    assert lines[0] == f"warning: handler night: {json.dumps({'zero': zero})}"
    found = json.loads(lines[1].removeprefix("warning: handler after: "))
    assert found == {
        "night": {"warn": [lines[0].removeprefix("warning: handler night: ")], "settings": {}},
        "zero": zero,
    }
    own.event(WIN11, "release", "failed")
    own.configure(f"{WANTS}")
    line = own.event(WIN11, "prepare").line
    assert line == "handler night: it needs pages, which no other handler provides: enable and want one that does"


def test_two_handlers_may_not_contradict_each_other(root: str) -> None:
    """The settings are another matter: a handler's word is more specific."""
    own = host(root, f'{WANTS}[domains.win11.handlers.other]\n[values]\n"vm.swappiness" = 1\n')
    enabled(own, SETS)
    enabled(own, SETS, "other")
    assert own.event(WIN11, "prepare").code == 0
    assert swappiness(own) == "10"
    own.event(WIN11, "release", "failed")
    enabled(own, SETS.replace("10", "20"), "other")
    line = own.event(WIN11, "prepare").line
    assert line.startswith('handler other: it sets settings.values."vm.swappiness" otherwise than the handler night: ')


def test_what_a_provider_settled_at_prepare_is_known_at_start(root: str) -> None:
    """It is asked at prepare alone. One that failed there has settled nothing, and who needs it fails, too."""
    own = host(root, f"{WANTS}[domains.win11.handlers.other]\n")
    tells = 'import json\nreturn {"warn": [json.dumps(given["settled"])]}'
    enabled(own, SETS.replace('",)', '",), provides=("x",)'), "other")
    enabled(own, code(tells, '"start",', ', needs=("x",)'))
    assert own.event(WIN11, "prepare").code == 0
    other = {"other": {"warn": [], "settings": {"values": {"vm.swappiness": 10}}}}
    assert f"warning: handler night: {json.dumps(other)}" in own.event(WIN11, "start").plan
    own.event(WIN11, "release", "failed")
    enabled(own, code(tells, more=', needs=("x",)'))
    enabled(own, code("1 / 0", more=', provides=("x",)'), "other")
    line = own.event(WIN11, "prepare").line
    assert "handler other (" in line
    assert "handler night: it needs the handler other, which failed: " in line


def test_a_circle_in_the_index_is_a_fault(root: str) -> None:
    """Nobody enables one, but somebody may write it."""
    own = host(root, f"{WANTS}[domains.win11.handlers.other]\n")
    enabled(own, code("pass", more=', provides=("x",)'))
    enabled(own, code("pass", more=', needs=("x",), provides=("y",)'), "other")
    index = Path(f"{root}/etc/libhook/handlers.json")
    index.write_text(index.read_text().replace('"needs": [], "provides": ["x"]', '"needs": ["y"], "provides": ["x"]'))
    line = own.event(WIN11, "prepare").line
    assert line.count("night, other need each other in a circle") == 2


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(5, "Input/output error")])
def test_a_bug_of_ours_is_in_nobodys_way(root: str, error: Exception) -> None:
    """It refuses where a start may be refused. Elsewhere it is a line."""
    own = host(root)
    enabled(own, code("return None", LIFE))
    own.event(WIN11, "prepare")
    own.event(WIN11, "start")
    with mock.patch("libhook.story.consult._asked", side_effect=error):
        assert own.event(WIN11, "started").logged("handler failed")
        assert own.event(WIN11, "release", "shutdown").logged("handler failed")
        assert own.event(WIN11, "prepare").code == 1
    assert own.records == [f"start {NIC} success", f"stop {NIC} success", f"start {NIC} failed"]


def test_a_life_through_the_launcher(root: str, tmp_path: Path) -> None:
    """As libvirtd calls it, of a guest without host devices: the launcher passes it on, since it is served."""
    own = host(root, launcher=True)
    patient(own, tmp_path)
    body = 'if given["operation"] != "prepare":\n    return {"warn": ["x"]}\n'
    body += 'return {"settings": {"values": {"vm.swappiness": 10}}}'
    enabled(own, code(body, LIFE))
    assert own.libvirt.start(PLAIN).error == ""
    assert swappiness(own) == "10"
    own.libvirt.stop("win11", "shutdown")
    assert swappiness(own) == "60"
    said = [outcome.operation for outcome in own.outcomes if "warning: handler night: x" in outcome.plan]
    assert said == ["start", "started", "release"]
    assert own.leftovers == []


def test_a_dry_run_of_the_start_shows_the_refusal_alone(root: str) -> None:
    """As the start would be refused."""
    own = host(root)
    commands.add(root, LIGHT)
    one = {"command": [LIGHT], "at": "start", "undo": [LIGHT, "off"]}
    body = 'if given["operation"] == "start":\n    return {"refuse": "no"}\n'
    body += f'return {{"settings": {{"run": {{"one": {one}}}}}}}'
    enabled(own, code(body, '"prepare", "start"'))
    own.event(WIN11, "prepare")
    foretold = own.call(("win11", "start", "begin", "-"), WIN11.xml(1, True), dry_run=True).stderr
    assert foretold[0] == "refuse: handler night: no: it says no more; it is in /etc/libhook/handlers"
    assert all(line.startswith("record ") for line in foretold[1:])
    assert own.event(WIN11, "start").line == "handler night: no: it says no more; it is in /etc/libhook/handlers"


def test_every_module_of_the_list_works(root: str) -> None:
    """Also what it imports only once it is used."""
    own = host(root)
    listed = "".join(f"import {name}\n" for name in ownhandler.MODULES if name not in ("libhook.handler", "__future__"))
    body = """
assert datetime.datetime.strptime("2026", "%Y").year == time.strptime("2026", "%Y").tm_year == 2026
assert json.loads(json.dumps({"a": [1.5]})) == {"a": [1.5]} and re.sub("a+", "b", "caat") == "cbt"
assert xml.etree.ElementTree.fromstring("<a><b/></a>").find("b") is not None
assert ipaddress.ip_network("10.0.0.0/8").num_addresses == 1 << 24 and textwrap.fill("a b", 1) == "a\\nb"
assert str(decimal.Decimal("1.1") + 1) == "2.1" and statistics.mean([1, 3]) == 2 and math.sqrt(4) == 2
assert "{:%Y}".format(datetime.date(2026, 1, 1)) == "2026" and calendar.monthrange(2026, 2)[1] == 28
assert copy.deepcopy({1: [2]}) == {1: [2]} and fnmatch.fnmatch("win11", "win*") and "\\u00e4".encode("latin-1")
assert functools.singledispatch(len)("ab") == 2 and xml.etree.ElementTree.tostring(xml.etree.ElementTree.Element("a"))
assert functools.lru_cache(lambda: 1)() == 1 and enum.Enum("E", "a").a and unicodedata.name("a") and time.localtime()
return {"refuse": base64.b64encode(b"all").decode()}
""".strip()
    enabled(own, f"{listed}{code(body)}")
    assert own.event(WIN11, "prepare").line == "handler night: YWxs: it says no more; it is in /etc/libhook/handlers"
