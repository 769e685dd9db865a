# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``legacy`` may say in the settings, in which sections, and what a journal entry may."""

import pytest
from settings_reading import parse

from libhook.errors import BadInput
from libhook.facts import legacy
from libhook.facts.config import Source
from libhook.facts.legacy import Call, Legacy
from libhook.facts.settings import read
from libhook.kinds import legacy as kind

PATH = "/etc/libvirt/old-hooks/qemu"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f'legacy.path = "{PATH}"', Legacy(PATH)),
        (f'[legacy]\npath = "{PATH}"\nseconds = 7\nfilter = true', Legacy(PATH, 7.0, True)),
        (f'legacy = {{ path = "{PATH}", seconds = 0.5 }}', Legacy(PATH, 0.5)),
        (f'legacy.path = "{PATH}"\n[domains."w*"]\nlegacy.seconds = 600', Legacy(PATH, 600.0)),
        (f'legacy.path = "{PATH}"\n[domains.win11]\nlegacy.path = ""', Legacy()),
        ('legacy.path = "/etc/a b/$x {name}"', Legacy("/etc/a b/$x {name}")),
    ],
)
def test_what_it_may_say(text: str, found: Legacy) -> None:
    """More specific sections add to it, key by key."""
    assert legacy.parse(parse(text, "win11").actions["legacy"]) == found


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (f'"{PATH}"', "a table: path ="),
        ("{ paht = 1 }", "it should probably be path"),
        ("{ colour = 1 }", "the known keys are path, seconds, filter"),
        ('{ path = "old-hooks/qemu" }', "the whole path of a script or folder"),
        ('{ path = "/etc/../qemu" }', "the whole path of a script or folder"),
        ('{ path = "/etc/a\\nb" }', "the whole path of a script or folder"),
        (f'{{ path = "/{"ab/" * 2000}x" }}', "the whole path of a script or folder"),
        ("{ path = 7 }", "the whole path of a script or folder"),
        ("{ seconds = 0 }", "0.1 to 600 seconds"),
        ("{ seconds = 601 }", "0.1 to 600 seconds"),
        ("{ seconds = nan }", "0.1 to 600 seconds"),
        ("{ seconds = true }", "0.1 to 600 seconds"),
        ('{ seconds = "7" }', "0.1 to 600 seconds"),
        ("{ filter = 1 }", "true or false"),
    ],
)
def test_what_it_may_not_say(value: str, wanted: str) -> None:
    """The error says what it must be."""
    with pytest.raises(BadInput) as refused:
        parse(f"legacy = {value}", "win11")
    assert wanted in refused.value.hint


def test_no_section_about_a_device_may_have_it() -> None:
    """The launcher looks for no device where libhook itself has nothing to do."""
    found = read([Source("a.toml", f'[devices.display]\nlegacy.path = "{PATH}"\n')])
    (problem,) = found.problems
    assert problem.what == 'devices."display".legacy may not be set for whichever guest has a device'


@pytest.mark.parametrize(
    ("text", "served"),
    [
        (f'legacy.path = "{PATH}"', ("/*",)),
        (f'[domains.win11]\nlegacy.path = "{PATH}"\n[domains.linux]\nmodules = ["x"]', ("/win11", "linux")),
        ("[domains.win11]\nlegacy.path = 7", ("/win11",)),
        ('[domains."[ab]"]\nlegacy.seconds = 7', ("/*",)),
    ],
)
def test_the_launcher_is_told_who_has_it(text: str, served: tuple[str, ...]) -> None:
    """By a slash, which no name has. Also where it is wrong."""
    assert read([Source("a.toml", text)]).served == served


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"path": PATH},
        {"path": 7, "seconds": 1.0},
        {"path": "etc", "seconds": 1.0},
        {"path": PATH, "seconds": 1e9},
        {"path": PATH, "seconds": float("nan")},
        {"path": "", "seconds": 1.0},
    ],
)
def test_a_journal_entry_is_read_field_by_field(entry: dict[str, object]) -> None:
    """Root runs what it names."""
    with pytest.raises(BadInput):
        kind.read(entry)


def test_what_is_journalled_is_read_back() -> None:
    """All that the way back needs."""
    one = kind.Old(Legacy(PATH, 7.0))
    assert kind.read(one.to_json()) == one


def test_calls_as_libvirts_documents_have_them() -> None:
    """Without an EXTRA that says nothing."""
    assert [str(one) for one in (legacy.call("start", "-"), *legacy.FAILED)] == [
        "start begin", "stopped end", "release end failed"
    ]  # fmt: skip
    assert legacy.call("release", "from snapshot") == Call("release", "end", "from snapshot")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\0b"])
def test_names_that_are_no_part_of_a_path(name: str) -> None:
    """They would lead out of the tree."""
    assert not legacy.is_part_of_path(name)
    assert legacy.is_part_of_path("--help")
    assert legacy.is_part_of_path("a\nb")
