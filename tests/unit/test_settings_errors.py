# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said of wrong settings: file, section, key, what was expected, and what was probably meant."""

import pytest
from settings_reading import FILE, files, merged

from libhook.errors import BadInput
from libhook.facts.problem import explained

KNOWN = "the known keys are audit.extra, audit.record, "
CLASSES = (
    "give an address (0000:01:00.0), vendor and product (10de:2684), or a class: display, network, nvme, usb, audio"
)
LIKELY = {
    "dry_runn = true": "unknown key dry_runn: it should probably be dry_run",
    "Dry-Run = true": "unknown key Dry-Run: it should probably be dry_run",
    "[domain.win11]\nsiblings = 'bind'": "unknown key domain: it should probably be domains",
    "required = true": "unknown key required: it should probably be audit.required",
    "storage = 'off'": "unknown key storage: it should probably be preflight.storage",
    "[audti]\nrequired = true": "unknown key audti: it should probably be audit",
    "'audit.required' = true": 'unknown key "audit.required": it should probably be audit.required',
    "\n\n[audit]\nrecrod = '2011'": "unknown key audit.recrod: it should probably be audit.record",
    "[domains.w]\nsiblngs = 'bind'": 'unknown key domains."w".siblngs: it should probably be siblings',
    "[devices.dispaly]": 'devices."dispaly" is no device: it should probably be devices."display"',
    "[devices.'03:00.0']": 'devices."03:00.0" is no device: it should probably be devices."0000:03:00.0"',
    "[devices.'0B:00.0']": 'devices."0B:00.0" is no device: it should probably be devices."0000:0b:00.0"',
}
EXPECTED = {
    "xyzzy = 1": f"unknown key xyzzy: {KNOWN}",
    "audit = 3": "audit is 3: it must be a section: [audit]",
    "[devices.gpu]": f'devices."gpu" is no device: {CLASSES}',
    "devices = 1": 'devices must be sections: write [devices."display"]',
    "domains = 1": 'domains must be sections: write [domains."NAME"]',
    "[domains]\nwin11 = 1": 'domains."win11" must be a section: write [domains."win11"]',
    "siblings = 'bnd'": 'siblings is \'bnd\': it must be "refuse" or "bind"',
    "replace = 1": "replace is 1: it must be true or false",
    "values = {'vm.x' = [1]}": 'values."vm.x" is wrong: it must be a line of at most 4096 bytes, or a whole number',
    "values = {'/sys/*/x' = 1}": 'values."/sys/*/x" is wrong: it must be a sysctl, or one file below /sys, '
    "by its name and no pattern",
    "values = [1]": 'values is a list: it must be a table: "vm.swappiness" = 10',
    "units = 1": 'units is 1: it must be a table of units: "display-manager.service" = "down"',
    "units = {'a.service' = 'off'}": 'units."a.service" is wrong: it must be "down" or "up"',
    "a.b = 1": 'unknown key a: for a guest of this name write [domains."a"]',
    "[win11]\nsiblings = 'bind'": 'unknown key win11: for a guest of this name write [domains."win11"]',
    "[domains.w.zzzzz]": f'unknown key domains."w".zzzzz: {KNOWN}',
    "[display]": 'unknown key display: write [devices."display"]',
    "['10DE:2684']": 'unknown key "10DE:2684": write [devices."10DE:2684"]',
    "[domains.w.displays]": 'unknown key domains."w".displays: it should probably be preflight.display',
}
NO_TOML = (
    "\ufeffdry_run = true", "\udcff\udcfed\0r\0", "\n# \udce4\n", "a = 1\nb = 2\rc", "a = 1\n\na = 2", "dry_run = True",
    "[domains.w]\nx = 1\n[domains.w]", "driver = vfio-pci", "dry_run", "dry_run = true // yes", "[]",
    "[domains.win 11]",
    "driver = 'a", 'driver = "C:\\x"', "a = [1,\n2", "a = 1 # \x01", "a = 1979-02-31", "a = " + "[" * 5000,
    "write_deadline = " + "9" * 5000,
)  # fmt: skip


@pytest.mark.parametrize(("text", "said"), [*LIKELY.items(), *EXPECTED.items()])
def test_an_error_has_its_key_what_is_wrong_and_what_helps(text: str, said: str) -> None:
    """Alone and in the second file; whoever has never seen TOML can act on it."""
    for texts in ((text + "\n",), ("driver = 'a'\n", text + "\n")):
        (problem,) = explained(files(*texts).problems)
        path = FILE if len(texts) == 1 else "/etc/libhook/config.d/1.toml"
        assert problem.text.startswith(f"{path}: {said}")
        assert problem.path == path


@pytest.mark.parametrize("text", NO_TOML)
def test_what_is_no_toml_is_said_with_its_file(text: str) -> None:
    """And in tomllib's words."""
    (problem,) = explained(files(text).problems)
    assert problem.text.startswith(f"{FILE}: this is not TOML: ")
    assert problem.text.endswith(': correct it; text stands in quotes, as in driver = "vfio-pci": https://toml.io')
    assert len(problem.what) < 200


def test_windows_lines_are_no_error() -> None:
    """As any editor of Windows makes them."""
    assert merged(files("dry_run = true\r\n")).dry_run


WRONG = ("dry_run = 1\n[domains.other]\nx = 1\n[domains.win11]\nsiblings = 1\ny = 2\n", "no TOML\n", "[devices.gpu]\n")


def test_all_errors_are_known_at_once() -> None:
    """Of each file all, in order; of one that is no TOML the first."""
    where = [(one.path.rpartition("/")[2], ".".join(one.keys)) for one in files(*WRONG).problems]
    assert where == [
        ("config.toml", "dry_run"),
        ("config.toml", "domains.other.x"),
        ("config.toml", "domains.win11.siblings"),
        ("config.toml", "domains.win11.y"),
        ("1.toml", ""),
        ("2.toml", "devices.gpu"),
    ]


def test_each_key_of_an_entry_has_its_own_error() -> None:
    """With its line, and the likely spelling; and so has each section that is wrong as a whole."""
    text = """[domains.win11.run.screen]
command = "/usr/bin/true"
at = "end"
user = "1000"
[domains.win11.run.good]
command = ["/usr/bin/true"]
[domains.win11.run.light]
comand = ["/usr/bin/true"]
[domains.win11.legacy]
paht = "/etc/old"
seconds = 0
"""
    found, win11 = files(text), 'domains."win11"'
    said = [one.text.removeprefix(f"{FILE}: ") for one in explained(found.problems)]
    assert len(said) == 6
    assert said[1:5] == [
        f'{win11}.run.screen.at is wrong: it must be "prepare" or "start" or "started"',
        f"{win11}.run.screen.user is wrong: it must be the name of a user other than root",
        f"unknown key {win11}.run.light.comand: it should probably be command",
        f"unknown key {win11}.legacy.paht: it should probably be path",
    ]
    (section,) = (one for one in found.sections if one.keys)
    assert (section.asks, dict(section.values)) == (True, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('sleep = "inhibit"\n', "unknown key sleep: have a command in the background under run keep the host awake; "),
        ("[require.x]\nfile = '/x'\n", "unknown key require: have a command under run refuse the start; docs/recipes"),
        ("[domains.a]\nend = ['sessions']\n", 'unknown key domains."a".end: have a command under run end it; docs/'),
        ("mounts = ['/srv']\n", 'unknown key mounts: name the mount point under units: "/srv/data" = "down"'),
    ],
)
def test_a_key_that_there_is_no_more_names_what_to_write_instead(text: str, said: str) -> None:
    """And no key that looks like it."""
    (problem,) = explained(files(text).problems)
    assert said in problem.text


def test_the_refusal_says_the_first_that_matters_and_how_many_more_there_are() -> None:
    """One line for libvirt, and the command that shows the rest. Whom nothing is wrong for is not refused."""
    with pytest.raises(BadInput) as refused:
        merged(files(*WRONG), "win11")
    assert refused.value.line == (
        f"{FILE}: dry_run is 1: it must be true or false; and 5 more: libhook config shows them"
    )
    with pytest.raises(BadInput) as refused:
        merged(files("[domains.other]\nx = 1\n[domains.win11]\nsiblings = 1\n"), "win11")
    assert refused.value.message == f'{FILE}: domains."win11".siblings is 1'
    assert refused.value.hint.endswith("; and 1 more: libhook config shows them")
    with pytest.raises(BadInput) as refused:
        merged(files("driver = 1\n"), "win11")
    assert refused.value.hint == 'it must be a driver\'s name, or "auto"'
