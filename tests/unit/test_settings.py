# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which sections are about a guest, which of them wins, and what adds up."""

import pytest
from settings_reading import files, merged, parse

from libhook.errors import BadInput
from libhook.facts import keys, settings
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.facts.settings import Device

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
GPU = Device(PciAddress.parse("0000:03:00.0"), "10de:2684", 0x0300)
SOUND = Device(PciAddress.parse("0000:03:00.1"), "10de:22ba", 0x0403)
LEVELS = (
    ("devices", "display"),
    ("devices", "10DE:2684"),
    ("devices", "0000:03:00.0"),
    ("domains", "w*"),
    ("domains", "win*"),
    ("domains", "win11"),
    ("domains", UUID),
)
"""From the least to the most specific, above the top level."""


@pytest.mark.parametrize("number", range(len(LEVELS) + 1))
@pytest.mark.parametrize("turned", [False, True], ids=["in order", "in reverse order"])
def test_each_level_wins_over_those_before_it(number: int, turned: bool) -> None:
    """Class, vendor and product, address, shorter pattern, longer pattern, name, UUID, however they are written."""
    parts = [f'[{kind}."{name}"]\ndriver = "d{at}"\n' for at, (kind, name) in enumerate(LEVELS[:number])]
    text = 'driver = "top"\n' + "".join(reversed(parts) if turned else parts)
    assert parse(text, "win11", UUID, [GPU]).driver == (f"d{number - 1}" if number else "top")


@pytest.mark.parametrize(
    ("pci_class", "name"),
    [
        (0x0300, "display"),
        (0x0302, "display"),
        (0x0200, "network"),
        (0x0280, "network"),
        (0x0108, "nvme"),
        (0x0106, ""),
        (0x0C03, "usb"),
        (0x0C05, ""),
        (0x0401, "audio"),
        (0x0403, "audio"),
        (0x0400, ""),
        (-1, ""),
    ],
)
def test_a_class_is_that_of_the_device(pci_class: int, name: str) -> None:
    """A GPU, a network card, an NVMe controller, a USB controller, a sound device; nothing else is in a class."""
    sections = "".join(f"[devices.{one}]\ndriver = '{one}'\n" for one in settings.CLASSES)
    found = parse(sections, "win11", UUID, [GPU._replace(ids="", pci_class=pci_class)])
    assert found.driver == (name or "auto")


def test_a_device_is_any_of_the_guest_s() -> None:
    """A section about a device is for whoever has it, beside others; and for nobody else."""
    text = "[devices.audio]\nholder_wait = 1\n[devices.'0000:03:00.0']\nwrite_deadline = 2\n"
    assert parse(text, "win11", UUID, [GPU, SOUND]) == Config(holder_wait=1.0, write_deadline=2.0)
    assert parse(text, "win11", UUID, [SOUND]) == Config(holder_wait=1.0)
    assert parse(text, "win11", UUID) == Config()


def test_between_two_devices_of_one_kind_the_later_section_wins() -> None:
    """In the order in which they are written."""
    text = "[devices.{}]\ndriver = 'first'\n[devices.{}]\ndriver = 'second'\n"
    for pair in (("audio", "display"), ("display", "audio")):
        assert parse(text.format(*pair), devices=[GPU, SOUND]).driver == "second"


def test_within_a_level_the_later_file_wins() -> None:
    """A drop-in overrides config.toml, and a later one an earlier; but no less specific section of it does."""
    found = files(
        "driver = 'a'\nholder_wait = 1\n[domains.win11]\nwrite_deadline = 1\n",
        "driver = 'b'\n",
        "driver = 'c'\nwrite_deadline = 3\n",
    )
    assert merged(found, "win11", UUID) == Config(driver="c", holder_wait=1.0, write_deadline=1.0)
    assert merged(found, "other", "") == Config(driver="c", holder_wait=1.0, write_deadline=3.0)


def test_tables_are_merged_key_by_key() -> None:
    """Each level adds to them; the more specific value of one entry wins."""
    text = (
        "[values]\n'vm/a' = 1\n'vm/b' = 1\n[devices.display.values]\n'vm/b' = 2\n'vm/c' = 2\n"
        "[domains.win11.values]\n'vm/c' = 3\n"
    )
    assert parse(text, "win11", UUID, [GPU]).actions["values"] == {"vm/a": 1, "vm/b": 2, "vm/c": 3}
    assert parse(text).actions["values"] == {"vm/a": 1, "vm/b": 1}


def test_lists_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the levels, each item once; the first kind that has a list needs no more."""
    monkeypatch.setitem(keys.OF_KINDS, "units", lambda value: "" if isinstance(value, list) else "a list")
    text = "units = ['a', 'b']\n[devices.display]\nunits = ['b', 'c']\n[domains.win11]\nunits = ['d', 'a']\n"
    assert parse(text, "win11", UUID, [GPU]).actions["units"] == ["a", "b", "c", "d"]
    assert parse(text, "win11", UUID).actions["units"] == ["a", "b", "d"]
    with pytest.raises(BadInput, match=r"units is 1$"):
        parse("units = 1\n")


def test_of_two_shapes_the_more_specific_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table and a list cannot be added up."""
    monkeypatch.setitem(keys.OF_KINDS, "units", lambda _: "")
    monkeypatch.delitem(keys.ENTRIES, "units")
    for one, other, expected in (("[1]", "{a = 2}", {"a": 2}), ("{a = 2}", "[1]", [1])):
        found = parse(f"units = {one}\n[domains.win11]\nunits = {other}\n", "win11")
        assert found.actions == {"units": expected}


def test_replace_drops_what_less_specific_sections_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the lists and tables that the section has itself; more specific ones add to it again."""
    monkeypatch.setitem(keys.OF_KINDS, "units", lambda value: "" if isinstance(value, list) else "a list")
    text = (
        "units = ['a']\nvalues = {'vm/a' = 1}\n[domains.'w*']\nreplace = true\nunits = ['b']\n"
        "[domains.win11]\nunits = ['c']\nvalues = {'vm/b' = 2}\n"
    )
    assert parse(text, "win11", UUID).actions == {"units": ["b", "c"], "values": {"vm/a": 1, "vm/b": 2}}
    assert parse(text, "web", UUID).actions == {"units": ["b"], "values": {"vm/a": 1}}
    assert parse("values = {'vm/a' = 1}\n[domains.x]\nreplace = true\nvalues = {}\n", "x").actions == {"values": {}}
    kept = parse("values = {'vm/a' = 1}\n[domains.x]\nreplace = false\nvalues = {}\n", "x")
    assert kept.actions == {"values": {"vm/a": 1}}


@pytest.mark.parametrize("key", ["siblings = 'bind'", "preflight.storage = 'off'", "preflight.usb = 'warn'"])
@pytest.mark.parametrize("name", ["display", "10de:2684", "0000:03:00.0"])
def test_a_device_may_not_relax(key: str, name: str) -> None:
    """Whichever guest is given it later would run with that consent; it may be stricter."""
    text = f"[devices.'{name}']\n{key}\n"
    with pytest.raises(BadInput, match=r"may not be set for whichever guest has a device$") as refused:
        parse(text, "win11", UUID, [GPU])
    assert refused.value.hint == "name one guest in [domains], by its exact name or UUID"
    assert parse(text, "win11", UUID, [SOUND]) == Config()
    strict = f"{key.split(' ')[0]} = 'refuse'"
    assert parse(f"{key}\n[devices.'{name}']\n{strict}\n", "win11", UUID, [GPU]) == Config()


@pytest.mark.parametrize(
    "section",
    [
        "[domains.other]",
        "[domains.'o*']",
        f"[domains.'{UUID.replace('c', 'd')}']",
        "[devices.network]",
        "[devices.'0000:05:00.0']",
    ],
)
@pytest.mark.parametrize("wrong", ["colour = 3", "driver = 1", "preflight = 'off'", "values = 3"])
def test_a_wrong_section_refuses_only_whom_it_matches(section: str, wrong: str) -> None:
    """Others are served, by what is right; whom it matches, by nothing at all."""
    text = f"dry_run = true\n{section}\n{wrong}\n"
    assert parse(text, "win11", UUID, [GPU]) == Config(dry_run=True)
    others = Device(PciAddress.parse("0000:05:00.0"), "8086:10d3", 0x0200)
    with pytest.raises(BadInput, match=r"config\.toml: "):
        parse(text, "other", UUID.replace("c", "d"), [others])


@pytest.mark.parametrize(
    "text",
    ["colour = 3\n", "this is no TOML", "devices = 3\n", "domains = 3\n", "[devices.dispaly]\n", "[[devices]]\n"],
)
def test_what_may_be_about_anybody_refuses_everybody(text: str) -> None:
    """The top level, a file that is no TOML, and a name that is no device's: it may have been meant for any."""
    with pytest.raises(BadInput):
        merged(files("", text), "win11", UUID)


def test_an_empty_folder_of_sections_says_nothing() -> None:
    """Neither does a section without keys."""
    text = "[devices]\n[domains]\n[devices.display]\n[domains.win11]\n[audit]\n"
    assert parse(text, "win11", UUID, [GPU]) == Config()
    assert not files("[devices]\n").name_devices


def test_sys_need_be_looked_at_only_for_what_a_device_is() -> None:
    """An address is in the XML already."""
    for name, described in (("0000:03:00.0", False), ("10de:2684", True), ("display", True)):
        found = files(f"[devices.'{name}']\n")
        assert (found.name_devices, found.describe_devices) == (True, described)
