# SPDX-License-Identifier: LGPL-2.1-or-later
"""Handlers by others that raise, hang, exit, lie or ask for what they may not: one line each, and no harm."""

import os
from pathlib import Path

import hanging
import pytest
from cases import DISK, NIC
from command import libhook
from own import HEAD, WANTS, code, enabled, host, patient, put, swappiness
from scenario import guest

WIN11 = guest(NIC)
NIGHT = "/etc/libhook/handlers/night.py"
CHANGED = f"{NIGHT} was changed since it was enabled: check what was changed, then run: libhook handlers enable night"
CORRECT = "correct it, then run: libhook handlers enable night"
_WALLS = pytest.mark.skipif(os.geteuid() != 0, reason="the simulation has all walls only for root")

ENEMIES = {
    "raises": ("1 / 0", f"({NIGHT}, line 5): ZeroDivisionError: division by zero"),
    "raises late": ("def f():\n    raise KeyError('x\\x1b[31m')\nf()", r"line 6): KeyError: 'x\x1b[31m'"),
    "raises oddly": (
        "class Odd(Exception):\n    def __str__(self):\n        raise ValueError\nraise Odd",
        "line 8): Odd: (it has no text)",
    ),
    "loops": ("while True: pass", f"({NIGHT}): it "),
    "sleeps": ("import time\ntime.sleep(60)", f"({NIGHT}): it does not end in time"),
    "exits": ("raise SystemExit(0)", "line 5): SystemExit: 0"),
    "leaves": ("import re\nre.enum.sys.modules['os']._exit(0)", f"({NIGHT}): it answers with no JSON"),
    "forks": ("import re\nre.enum.sys.modules['os'].fork()", "line 6): BlockingIOError: "),
    "allocates": ("x = bytearray(1 << 40)", "line 5): MemoryError: correct"),
    "grows": ("x = []\nwhile True: x.append(bytearray(1 << 20))", "line 6): MemoryError: correct"),
    "recurses": ("def f(): return f()\nf()", "line 5): RecursionError: "),
    "answers much": ("return {'warn': ['x' * 100_000]}", f"({NIGHT}): it answers more than 64 KiB"),
    "answers all": ("return {'warn': ['x' * 100_000_000]}", f"({NIGHT}"),
    "answers deep": ("x = []\nfor _ in range(900): x = [x]\nreturn {'warn': x}", f"({NIGHT}): its answer is too large"),
    "answers a set": ("return {1}", "TypeError: Object of type set is not JSON serializable"),
    "answers a list": ("return []", f"({NIGHT}): it answers neither with a dict nor with None"),
    "answers itself": ("x = {}\nx['warn'] = x\nreturn x", f"({NIGHT}"),
    "answers NaN": ("return {'settings': {'values': {'vm.swappiness': float('nan')}}}", "its answer is too large"),
    "unknown": ("return {'refuze': 'x'}", "the answer has 'refuze'; it may have refuse, remedy, warn, settings"),
    "another's": (
        f"return {{'refuse': [{{'device': '{DISK}', 'reason': 'x'}}]}}",
        f"it refuses '{DISK}', which is no device of the guest",
    ),
    "no remedy": ("return {'refuse': 'x', 'remedy': 1}", "remedy is not a line of text"),
    "a text in a list": ("return {'refuse': ['x']}", "an entry of refuse is not a dict"),
    "a refusal": ("return {'refuse': 5}", "refuse is neither a line of text nor a list of up to 20 refusals"),
    "settings": ("return {'settings': ['x']}", "settings is not a dict"),
    "no reason": ("return {'refuse': [{}]}", "a refusal has no line of text as its reason"),
    "two lines": ("return {'warn': ['a\\nb']}", "warn is not a list of up to 20 lines of text"),
    "surrogate": ("return {'warn': ['\\udc80']}", "its answer is too large, too deep, or has a text"),
    "value": ("return {'settings': {'values': {'/etc/passwd': 1}}}", 'settings.values."/etc/passwd": it must be a sys'),
    "end": ("return {'settings': {'end': ['sessions']}}", "settings has 'end'; at prepare it may have values, units"),
    "relaxes": ("return {'settings': {'siblings': 'bind'}}", "settings has 'siblings'; at prepare it may have"),
    "wants": ("return {'settings': {'handlers': {'other': {}}}}", "settings has 'handlers'; at prepare it may"),
    "dry": ("return {'settings': {'dry_run': True}}", "settings has 'dry_run'; at prepare it may have"),
    "protected": (
        "return {'settings': {'units': {'libvirtd.service': 'down'}}}",
        'settings.units."libvirtd.service": it must be a unit that neither libvirt nor the host depends on',
    ),
    "writes": ("open('/etc/x', 'w')", "line 5): OSError: [Errno 24] Too many open files: '/etc/x'"),
    "imports": ("__import__('antigravity')", "ModuleNotFoundError: No module named 'antigravity'"),
    "prints": ("print('x' * 1_000_000)\nreturn 5", "it answers neither with a dict nor with None"),
}


@pytest.mark.parametrize("name", ENEMIES)
def test_at_prepare_the_guest_is_refused(root: str, name: str) -> None:
    """In one line with the handler's name and file; nothing is written; its device is as before."""
    body, said = ENEMIES[name]
    own = host(root)
    enabled(own, code(body))
    if name in ("loops", "sleeps"):
        hanging.late_at_a_handler()
    outcome = own.event(WIN11, "prepare")
    assert outcome.code == 1
    assert outcome.line.startswith(f"handler night ({NIGHT}"), outcome.line
    assert said in outcome.line, outcome.line
    assert outcome.line.endswith(f": {CORRECT}")
    assert len(outcome.line) < 700
    assert outcome.writes == ()
    own.event(WIN11, "release", "failed")
    assert (own.leftovers, own.driver(NIC)) == ([], "e1000e")


@pytest.mark.parametrize("name", ["raises", "sleeps", "forks", "unknown", "another's"])
def test_elsewhere_it_is_a_line_in_the_log(root: str, name: str) -> None:
    """The guest's records are written and its device comes back, whatever the handler does."""
    body, said = ENEMIES[name]
    said = said if name != "another's" else "it refuses at "
    own = host(root)
    enabled(own, code(body, '"started", "reconnect", "release"'))
    if name == "sleeps":
        hanging.late_at_a_handler()
    own.begin(WIN11)
    for operation in ("started", "reconnect", "release"):
        if name == "sleeps":
            hanging.late_at_a_handler()
        outcome = own.outcomes[-1] if operation == "started" else own.event(WIN11, operation, "shutdown")
        (logged,) = outcome.logged("handler failed")
        assert (logged["handler"], outcome.code, outcome.stderr) == ("night", 0, ())
        assert said in logged["reason"], logged["reason"]
    assert own.records == [f"start {NIC} success", f"stop {NIC} success"]
    assert (own.leftovers, own.driver(NIC)) == ([], "e1000e")


@pytest.mark.parametrize("name", ["raises", "sleeps", "answers much", "relaxes"])
def test_at_start_the_guest_is_refused(root: str, name: str) -> None:
    """And all that prepare took is given back."""
    body, said = ENEMIES[name]
    said = "it sets something at start; that is for prepare and attach" if name == "relaxes" else said
    own = host(root)
    enabled(own, code(body, '"start",'))
    if name == "sleeps":
        hanging.late_at_a_handler()
    assert said in own.libvirt.start(WIN11).error
    assert own.records == [f"start {NIC} failed"]
    assert (own.leftovers, own.driver(NIC)) == ([], "e1000e")


def test_at_release_it_is_asked_though_the_entry_is_broken(root: str) -> None:
    """The give-back says that, and the handler is asked all the same."""
    own = host(root)
    enabled(own, code('return {"warn": ["good night"]}', '"release",'))
    own.begin(WIN11)
    Path(f"{root}/run/libhook/domains/{WIN11.uuid}.json").write_text("{")
    outcome = own.event(WIN11, "release", "shutdown")
    assert outcome.code == 0
    assert "warning: handler night: good night" in outcome.plan


def test_the_settings_may_let_the_start_go_on(root: str) -> None:
    """The plan says that the handler was skipped, and why; what another has set holds."""
    own = host(root, f'{WANTS}on_fault = "skip"\n[domains.win11.handlers.other]\n')
    enabled(own, code("1 / 0"))
    enabled(own, code('return {"settings": {"values": {"vm.swappiness": 10}}}'), "other")
    outcome = own.event(WIN11, "prepare")
    assert (outcome.code, swappiness(own)) == (0, "10")
    assert f"warning: skipped: handler night ({NIGHT}, line 5): ZeroDivisionError: division by zero" in outcome.plan


def _append(own: Path) -> None:
    own.write_text(own.read_text() + "\n")


def _touch(own: Path) -> None:
    os.utime(own, ns=(1, 1))


def _replace(own: Path) -> None:
    own.with_suffix(".new").write_text(own.read_text())
    own.with_suffix(".new").rename(own)


def _link(own: Path) -> None:
    own.rename(own.with_suffix(".new"))
    own.symlink_to(own.with_suffix(".new"))


def _folder(own: Path) -> None:
    own.unlink()
    own.mkdir()


def _linked_folder(own: Path) -> None:
    own.parent.rename(own.parent.with_suffix(".new"))
    own.parent.symlink_to(own.parent.with_suffix(".new"))


def _same_times(own: Path) -> None:
    """Other text of the same length, with the old times."""
    status = own.stat()
    own.write_text(own.read_text().replace("10", "99"))
    os.utime(own, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            _append,
            CHANGED,
        ),
        (
            _touch,
            CHANGED,
        ),
        (
            _replace,
            CHANGED,
        ),
        (
            _same_times,
            CHANGED,
        ),
        (_link, f"{NIGHT} cannot be opened (Too many levels of symbolic links): put a real file there"),
        (_folder, f"{NIGHT} is no file: put a real file there"),
        (_linked_folder, "/etc/libhook/handlers is no folder that can be opened ("),
        pytest.param(
            lambda own: os.chown(own, 7, 7),
            f"{NIGHT} does not belong to root: check what is in it, then run: chown root:root {NIGHT}",
            marks=_WALLS,
        ),
        (
            lambda own: own.chmod(0o666),
            f"others may write to {NIGHT}: check what is in it, then run: chmod go-w {NIGHT}",
        ),
        (
            lambda own: own.parent.chmod(0o777),
            "others may write to /etc/libhook/handlers: check what is in it, then run: chmod go-w /etc/libhook/",
        ),
        (lambda own: own.parent.parent.chmod(0o777), "/etc/libhook is not a folder that only root may write to"),
        (lambda own: own.unlink(), f"there is no {NIGHT}: put the handler there"),
        (lambda own: own.with_suffix("").mkdir(), f"there are both {NIGHT} and /etc/libhook/handlers/night: remove"),
    ],
)
def test_what_was_not_enabled_is_not_run(root: str, change: object, said: str) -> None:
    """A file that is another, or that others could write, refuses the guest until somebody enables it again."""
    own = host(root)
    enabled(own, code('return {"settings": {"values": {"vm.swappiness": 10}}}'))
    change(Path(f"{root}{NIGHT}"))  # type: ignore[operator]
    outcome = own.event(WIN11, "prepare")
    assert outcome.code == 1
    assert said in outcome.line, outcome.line
    assert outcome.writes == ()


def test_one_that_was_never_enabled_refuses_too(root: str) -> None:
    """The folder is not searched."""
    own = host(root)
    put(own, code("return None"))
    said = "handler night: it is not enabled: run: libhook handlers enable night"
    assert own.event(WIN11, "prepare").line == said
    index = Path(f"{root}/etc/libhook/handlers.json")
    enabled(own, code("return None"))
    index.write_text('{"version": 1, "handlers": {"night": {}}}')
    assert own.event(WIN11, "prepare").line == said
    index.write_text("[" * 100_000)
    assert "/etc/libhook/handlers.json: it is no index of handlers: remove it" in own.event(WIN11, "prepare").line
    index.chmod(0o666)
    assert "handlers.json is not a file that only root may write to" in own.event(WIN11, "prepare").line


def test_one_that_declares_otherwise_than_when_enabled_refuses(root: str) -> None:
    """Its own code may say this or that, by the hour."""
    own = host(root)
    text = f"import time\n{HEAD}OPERATIONS = ('prepare', 'start') if time.time() % 2 < 3 else ()\n"
    text += "@handler(api=1, operations=OPERATIONS)\ndef asked(given):\n    return None\n"
    enabled(own, text)
    index = Path(f"{root}/etc/libhook/handlers.json")
    index.write_text(index.read_text().replace('["prepare", "start"]', '["prepare"]'))
    line = own.event(WIN11, "prepare").line
    assert f"({NIGHT}): it declares otherwise than when it was enabled: run: libhook handlers enable night" in line


@_WALLS
@pytest.mark.parametrize("name", ["raises", "sleeps", "forks"])
def test_the_launcher_answers_all_the_same(root: str, tmp_path: Path, name: str) -> None:
    """As libvirtd runs it."""
    body, said = ENEMIES[name]
    own = host(root, launcher=True)
    if name != "sleeps":
        patient(own, tmp_path)
    enabled(own, code(body))
    outcome = own.event(WIN11, "prepare")
    assert outcome.code == 1
    assert said in outcome.line


def test_a_crowd_of_handlers_has_one_events_time(root: str) -> None:
    """Each has two seconds, and all together what the event has."""
    names = [f"one{number}" for number in range(4)]
    own = host(root, "".join(f"[domains.win11.handlers.{name}]\n" for name in names))
    for name in names:
        enabled(own, code("while True: pass"), name)
    hanging.late_at_a_handler()
    line = own.event(WIN11, "prepare").line
    assert line.count("it does not end in time") == 3
    assert "and 1 more" in line
    assert libhook(own, "status").code == 0


@pytest.mark.parametrize("broken", ["index", "code", "folder", "hangs"])
def test_whatever_became_of_a_handler_its_values_go(root: str, broken: str) -> None:
    """The guest's end gives back what the entry says, and asks nobody. One that hangs is ended after that."""
    own = host(root)
    sets = 'return {"settings": {"values": {"vm.swappiness": 10}}}'
    body = f'import time\nif given["operation"] == "release":\n    time.sleep(60)\n{sets}'
    enabled(own, code(body if broken == "hangs" else sets, '"prepare", "release"'))
    own.begin(WIN11)
    assert swappiness(own) == "10"
    if broken == "index":
        Path(f"{root}/etc/libhook/handlers.json").write_text("{")
    elif broken == "code":
        put(own, ")(")
    elif broken == "folder":
        Path(f"{root}/etc/libhook/handlers").rename(f"{root}/etc/libhook/old")
    if broken == "hangs":
        hanging.late_at_a_handler()
    ended = own.event(WIN11, "release", "shutdown")
    assert ended.logged("handler failed")
    events = [entry["event"] for entry in ended.log]
    assert events.index("handler failed") > max(at for at, event in enumerate(events) if event == "done")
    assert (swappiness(own), own.driver(NIC), own.leftovers) == ("60", "e1000e", [])
    assert own.records == [f"start {NIC} success", f"stop {NIC} success"]
