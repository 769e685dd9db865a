# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook handlers``: which there are, and what is checked before one is enabled."""

import json
from pathlib import Path

import pytest
from command import libhook
from own import HEAD, WANTS, code, enabled, host, put
from test_own_handlers import WIN11

NIGHT = "/etc/libhook/handlers/night.py"
GOOD = code("return None")
BAD = {
    "no function": (f"{HEAD}x = 1\n", f"{NIGHT}: no function with @handler; it must have one: correct it"),
    "two": (GOOD + GOOD.replace("asked", "other"), f"{NIGHT}: several functions with @handler; it must have one"),
    "no argument": (GOOD.replace("(given)", "()"), "must be an ordinary function of one argument"),
    "a keyword": (GOOD.replace("(given)", "(given, *, x)"), "must be an ordinary function of one argument"),
    "a generator": (code("yield None"), "must be an ordinary function of one argument"),
    "a class": (GOOD.replace("def asked(given):\n    return", "class asked:\n    x ="), "must be an ordinary function"),
    "a syntax error": (f"{GOOD}\n)(\n", f"{NIGHT}, line 7): SyntaxError: ".replace("):", ":")),
    "an exception": (f"{HEAD}1 / 0\n", f"{NIGHT}, line 3: ZeroDivisionError: division by zero: correct it, then"),
    "an endless loop": (f"{HEAD}while True: pass\n", f"{NIGHT}: it "),
    "another version": (GOOD.replace("api=1", "api=2"), "it asks for another version of the contract: this libhook"),
    "True": (GOOD.replace("api=1", "api=True"), "it asks for another version of the contract: this libhook has: api=1"),
    "a text": (GOOD.replace('("prepare",)', '("prepare")'), "it names wrong operations: the operations are prepare,"),
    "an operation": (GOOD.replace("prepare", "migrate"), "it names wrong operations: the operations are prepare,"),
    "none": (GOOD.replace('"prepare",', ""), "it names wrong operations: the operations are prepare, start"),
    "a need": (code("pass", more=', needs=("a b",)'), "it needs something wrong: name it with letters, digits and _"),
    "its own": (code("pass", more=', needs=("a",), provides=("a",)'), "it needs what it provides itself: take it out"),
    "nobody": (code("pass", more=', needs=("gpu",)'), "it needs gpu, which no other handler provides: enable and want"),
    "os": (
        f"import re\nimport os\n{GOOD}",
        f"{NIGHT}, line 2: it imports os, which a handler may not: libhook-handlers",
    ),
    "os within": (code("from os import path"), f"{NIGHT}, line 5: it imports os, which a handler may not: "),
    "libhook": (
        f"from libhook import run\n{GOOD}",
        f"{NIGHT}, line 1: it imports libhook.run, which a handler may not: ",
    ),
    "a typo": (
        f"import jason\n{GOOD}",
        "imports jason, which a handler may not: did you mean json? libhook-handlers(7) ",
    ),
    "a null byte": ("\0", f"{NIGHT}: "),
    "an exception with a command": (
        f"{HEAD}raise ValueError('run: reboot')\n",
        r"ValueError: run\x3a reboot: correct it",
    ),
    "an encoding": ("# coding: klingon\n", "SyntaxError: "),
    "much": (f"x = '{'x' * (1 << 18)}'\n", f"{NIGHT} is longer than 256 KiB: make it smaller"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_when_it_is_enabled(root: str, name: str) -> None:
    """In one line, and the index stays as it was."""
    text, said = BAD[name]
    own = host(root)
    put(own, text)
    done = libhook(own, "handlers", "enable", "night")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert said in done.err, done.err
    assert not Path(f"{root}/etc/libhook/handlers.json").exists()


@pytest.mark.parametrize("name", ["../night", "night.py", "", "_x", "json", "libhook", "x" * 65, "nächte", "--help x"])
def test_a_name_is_that_of_a_module(root: str, name: str) -> None:
    """And of none of Python's."""
    done = libhook(host(root), "handlers", "enable", name)
    assert (done.code != 0, done.out) == (True, "")


def test_where_there_is_no_folder_yet_it_says_which(root: str) -> None:
    """That is the first thing that somebody new meets."""
    own = host(root)
    hint = "there is no folder /etc/libhook/handlers: make it, and put the handler there"
    assert libhook(own, "handlers", "enable", "night") == (1, "", f"{hint}\n")
    assert "night  missing" in libhook(own, "handlers").out
    assert "handlers.night = {} " in libhook(own, "config").out + libhook(own, "config", "win11").out


def test_it_says_what_the_handler_asks_for(root: str) -> None:
    """Enabled, listed, disabled; the index may be read by everybody."""
    own = host(root)
    assert libhook(host(f"{root}/x", ""), "handlers").out == "there are no handlers by others\n"
    put(own, "import re, datetime\n" + code("datetime.datetime.strptime('1', '%d')", more=', provides=("pages",)'))
    assert 'night  not enabled  wanted by domains."win11"  run: libhook' in libhook(own, "handlers").out
    done = libhook(own, "handlers", "enable", "night")
    assert done.out.splitlines() == [
        "night: enabled; it is asked at prepare",
        "night: it provides pages",
        "night: it imports re, datetime, libhook.handler, _strptime",
    ]
    assert Path(f"{root}/etc/libhook/handlers.json").stat().st_mode & 0o777 == 0o644
    put(own, code("pass", more=', needs=("pages",)'), "other")
    assert "no section of the settings wants it yet" in libhook(own, "handlers", "enable", "other").out
    assert libhook(own, "handlers").out.splitlines() == [
        'night  enabled  prepare  provides pages  wanted by domains."win11"',
        "other  enabled  prepare  needs pages  no section wants it",
    ]
    rows = json.loads(libhook(own, "handlers", "--json").out)["handlers"]
    assert [(row["name"], row["state"], row["needs"]) for row in rows] == [
        ("night", "enabled", []),
        ("other", "enabled", ["pages"]),
    ]
    put(own, GOOD)
    assert "night  changed  " in libhook(own, "handlers").out
    Path(f"{root}{NIGHT}").chmod(0o666)
    assert f'night  not trusted  prepare  provides pages  wanted by domains."win11"  others may write to {NIGHT}' in (
        libhook(own, "handlers").out
    )
    Path(f"{root}{NIGHT}").unlink()
    assert "night  missing  " in libhook(own, "handlers").out
    done = libhook(own, "handlers", "disable", "night")
    assert done.out.splitlines()[0] == "night: disabled"
    assert 'domains."win11" wants it' in done.out
    assert libhook(own, "handlers", "disable", "night").out == "night: it is not enabled\n"
    assert libhook(own, "handlers", "enable").err.startswith("libhook handlers enable needs a name: ")


def test_a_handler_that_cannot_be_asked_is_an_error_of_the_settings(root: str) -> None:
    """Wherever that is said, each step to mend it is. One that may be skipped is in nobody's way."""
    own = host(root, f"\n{WANTS}")
    put(own, GOOD, "other")
    missing = f"there is no {NIGHT}: put the handler there, then run: libhook handlers enable night\n"
    fault = f"/etc/libhook/config.toml: the handler night: {missing}"
    for words in ((), ("win11",)):
        assert (done := libhook(own, "config", *words)).code == 1
        assert done.err == fault
    (error,) = json.loads(libhook(own, "config", "--json").out)["errors"]
    assert error["key"] == 'domains."win11".handlers.night'
    assert missing.rstrip() in libhook(own, "handlers").out
    plan = libhook(own, "plan", "-", stdin=WIN11.xml())
    assert (plan.code, plan.err) == (1, f"handler night: it is not enabled, and {missing}")
    put(own, GOOD)
    said = libhook(own, "config").err
    assert said.endswith(".toml: the handler night: it is not enabled: run: libhook handlers enable night\n")
    enabled(own, GOOD)
    assert libhook(own, "config").code == 0
    put(own, f"{GOOD}\n")
    assert "it was changed since it was enabled: check what was changed, then run: " in libhook(own, "config").err
    own.configure(f'{WANTS}on_fault = "skip"\n')
    assert libhook(own, "config").code == 0
    own.configure("")
    assert libhook(own, "config").code == 0


def test_needs_in_a_circle_are_refused(root: str) -> None:
    """The handler that would close it is not enabled."""
    own = host(root)
    enabled(own, code("pass", more=', provides=("a",)'), "one")
    enabled(own, code("pass", more=', needs=("a",), provides=("b",)'), "two")
    put(own, code("pass", more=', needs=("b",), provides=("a",)'), "one")
    done = libhook(own, "handlers", "enable", "one")
    assert done.err.startswith("the handler one: one, two need each other in a circle: ")


def test_a_package_imports_its_own_files(root: str) -> None:
    """By its name, and relatively; what is not there is an error with a line; folders in it are not read."""
    own = host(root)
    folder = Path(f"{root}/etc/libhook/handlers/night")
    folder.mkdir(parents=True)
    text = code('import re\nreturn {"refuse": hours.SAYS + more()}').replace("\n\n", "\nimport night.hours\n\n", 1)
    text = text.replace("import night.hours\n", "from night import hours\nfrom .hours import more\n")
    (folder / "__init__.py").write_text(text)
    (folder / "hours.py").write_text(
        "import textwrap\nSAYS = 'it is '\ndef more():\n    return textwrap.fill('late')\n"
    )
    (folder / "notes.txt").write_text("no code")
    done = libhook(own, "handlers", "enable", "night")
    assert (done.code, done.err) == (0, "")
    assert "it imports libhook.handler, re, textwrap" in done.out
    assert (
        own.event(WIN11, "prepare").line == "handler night: it is late: it says no more; it is in /etc/libhook/handlers"
    )
    own.event(WIN11, "release", "failed")
    (folder / "hours.py").write_text("SAYS = 'x'\ndef more():\n    raise ValueError('x')\n")
    assert "was changed since" in own.event(WIN11, "prepare").line
    own.event(WIN11, "release", "failed")
    libhook(own, "handlers", "enable", "night")
    assert "night/hours.py, line 3): ValueError: x: correct it" in own.event(WIN11, "prepare").line
    own.event(WIN11, "release", "failed")
    (folder / "hours.py").unlink()
    assert "line 2: ImportError: cannot import name 'hours'" in libhook(own, "handlers", "enable", "night").err
    for number in range(40):
        (folder / f"x{number}.py").write_text("")
    assert "has more than 32 files" in libhook(own, "handlers", "enable", "night").err
    (folder / "__init__.py").unlink()
    assert "there is no /etc/libhook/handlers/night" in libhook(own, "handlers", "enable", "night").err


def test_a_misspelt_handler(root: str) -> None:
    """The one that was probably meant is named, where one is near."""
    own = host(root)
    put(own, GOOD)
    there = "there is no /etc/libhook/handlers/"
    assert libhook(own, "handlers", "enable", "nigth").err == (
        f"{there}nigth.py: did you mean night? put the handler there\n"
    )
    assert libhook(own, "handlers", "enable", "x").err == f"{there}x.py: put the handler there\n"
    enabled(own, GOOD)
    assert libhook(own, "handlers", "disable", "nigth").out == "nigth: it is not enabled: did you mean night?\n"


def test_the_settings_show_it(root: str) -> None:
    """With its options; a wrong entry is an error of the settings."""
    own = host(root, f"{WANTS}begins = 22\n")
    assert "handlers.night = { begins = 22 }" in libhook(own, "config", "win11").out
    for text, said in (
        ('on_fault = "go"\n', "it must be a section in which on_fault is"),
        ("at = 2026-01-01\n", "it must be a section of texts, numbers, true, false, lists and tables"),
        ("at = nan\n", "it must be a section of texts, numbers"),
        (f"at = {'[' * 20}{']' * 20}\n", "it must be a section of texts, numbers"),
    ):
        own.configure(f"{WANTS}{text}")
        assert said in libhook(own, "config").err
    for text, said in (
        ('handlers = "night"\n', "it must be sections with a name each: [handlers.NAME]"),
        ("[handlers]\nnight = 1\n", "it must be a section with the handler's options: [handlers.night]"),
        ('[handlers."a-b"]\n', "it must be named after a file in /etc/libhook/handlers, without .py"),
    ):
        own.configure(text)
        assert said in libhook(own, "config").err
    own.configure(f'{WANTS}text = "{{name}} {{x"\n')
    enabled(own, GOOD)
    assert libhook(own, "config").err == ""


def test_the_doctor_says_what_would_fail(root: str) -> None:
    """Of what the settings want."""
    own = host(root)
    put(own, GOOD)
    put(own, GOOD, "unwanted")
    said = 'the handler night is not enabled, and domains."win11" wants it: run: libhook handlers enable night'
    out = libhook(own, "doctor").out
    assert f"fail  {said}" in out
    assert "unwanted" not in out
    enabled(own, GOOD)
    assert "ok    handlers of your own: night" in libhook(own, "doctor").out


def test_an_index_that_cannot_be_written_is_said(root: str) -> None:
    """With its path."""
    own = host(root)
    put(own, GOOD)
    Path(f"{root}/etc/libhook/handlers.json.new").mkdir()
    assert "/etc/libhook/handlers.json cannot be written (" in libhook(own, "handlers", "enable", "night").err
