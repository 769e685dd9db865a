# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said of wrong settings: file, line, key, what was expected, and what was probably meant."""

import subprocess
from pathlib import Path

import pytest
from settings_reading import FILE, files, merged

from libhook.errors import BadInput
from libhook.facts import complaints, settings
from libhook.facts.config import Source
from libhook.facts.settings import Settings

KNOWN = "the known keys are audit.extra, audit.record, "
CLASSES = (
    "give an address (0000:01:00.0), vendor and product (10de:2684), or a class: display, network, nvme, usb, audio"
)
NAMES = 'a name with other characters than letters, digits, _ and - stands in quotes: [domains."win 11"]'
WRITE = "write KEY = VALUE or [SECTION]; a comment begins with #"
VALUE = 'what follows = is not a value: text stands in quotes, as in driver = "vfio-pci"; numbers, true and false'
CLOSE = "a text has no closing quote: close it with the quotes that it begins with"
TWICE = "keep one of the two, with the keys of both"
LIKELY = {
    "dry_runn = true": "1: unknown key dry_runn: it should probably be dry_run",
    "Dry-Run = true": "1: unknown key Dry-Run: it should probably be dry_run",
    "[domain.win11]\nsiblings = 'bind'": "1: unknown key domain: it should probably be domains",
    "required = true": "1: unknown key required: it should probably be audit.required",
    "storage = 'off'": "1: unknown key storage: it should probably be preflight.storage",
    "[audti]\nrequired = true": "1: unknown key audti: it should probably be audit",
    "'audit.required' = true": '1: unknown key "audit.required": it should probably be audit.required',
    "\n\n[audit]\nrecrod = '2011'": "4: unknown key audit.recrod: it should probably be audit.record",
    "[domains.w]\nsiblngs = 'bind'": '2: unknown key domains."w".siblngs: it should probably be siblings',
    "[devices.dispaly]": '1: devices."dispaly" is no device: it should probably be devices."display"',
    "[devices.'03:00.0']": '1: devices."03:00.0" is no device: it should probably be devices."0000:03:00.0"',
    "[devices.'0B:00.0']": '1: devices."0B:00.0" is no device: it should probably be devices."0000:0b:00.0"',
}
EXPECTED = {
    "xyzzy = 1": f"1: unknown key xyzzy: {KNOWN}",
    "audit = 3": "1: audit is 3: it must be a section: [audit]",
    "[devices.gpu]": f'1: devices."gpu" is no device: {CLASSES}',
    "devices = 1": '1: devices must be sections: write [devices."display"]',
    "domains = 1": '1: domains must be sections: write [domains."NAME"]',
    "[domains]\nwin11 = 1": '2: domains."win11" must be a section: write [domains."win11"]',
    "siblings = 'bnd'": '1: siblings is \'bnd\': it must be "refuse" or "bind"',
    "replace = 1": "1: replace is 1: it must be true or false",
    "values = {'vm.x' = [1]}": '1: values."vm.x" is wrong: it must be a line of at most 4096 bytes, or a whole number',
    "values = {'/sys/*/x' = 1}": '1: values."/sys/*/x" is wrong: it must be a sysctl, or one file below /sys, '
    "by its name and no pattern",
    "values = [1]": '1: values is a list: it must be a table: "vm.swappiness" = 10',
    "units = 1": '1: units is 1: it must be a table of units: "display-manager.service" = "down"',
    "units = {'a.service' = 'off'}": '1: units."a.service" is wrong: it must be "down" or "up"',
    "a.b = 1": '1: unknown key a: for a guest of this name write [domains."a"]',
    "[win11]\nsiblings = 'bind'": '1: unknown key win11: for a guest of this name write [domains."win11"]',
    "[domains.w.zzzzz]": f'1: unknown key domains."w".zzzzz: {KNOWN}',
    "[display]": '1: unknown key display: write [devices."display"]',
    "['10DE:2684']": '1: unknown key "10DE:2684": write [devices."10DE:2684"]',
    "[domains.w.displays]": '1: unknown key domains."w".displays: it should probably be preflight.display',
}
SYNTAX = {
    "\ufeffdry_run = true": "1: the file begins with a byte order mark (BOM): save the file without it: sed -i",
    "\udcff\udcfed\0r\0": "1: the file is in UTF-16, or no text at all: save it as UTF-8: iconv -f UTF-16",
    "\n# \udce4\n": "2: the byte 0xe4 is not UTF-8: save the file as UTF-8; if it is Latin-1 now: iconv",
    "a = 1\r\nb = 2\rc": "2: a line ends with CR alone, or has one in it: end lines as Linux does: sed -i",
    "a = 1\n\na = 2": f"3: a was already written in line 1: {TWICE}",
    "a = 1\na = [\n2\n]\n": f"2: a was already written in line 1: {TWICE}",
    "[domains.w]\nx = 1\n[domains.w]": f'3: domains."w" was already written in line 1: {TWICE}',
    "values = {a = 1, a = 2}": f"1: values.a was already written in this line: {TWICE}",
    "x.y.z = 1\nx.y.w = 2\na = 1\na = 2": f"4: a was already written in line 3: {TWICE}",
    "driver = 'a'\n[driver]": f"2: driver was already written in line 1: {TWICE}",
    "dry_run = True": f"1: {VALUE}",
    "driver = vfio-pci": f"1: {VALUE}",
    "dry_run": "1: there is no = after the key: write KEY = VALUE; a comment begins with #",
    "dry_run = true // yes": "1: something follows the value: one setting a line, and a comment begins with #",
    "[domains.win 11]": f"1: the section's name is not closed by ]: {NAMES}",
    "[]": f"1: a key is missing, or needs quotes: {NAMES}",
    "; comment": f"1: this is not a setting: {WRITE}",
    "driver = 'a": f"1: {CLOSE}",
    'driver = "a': f"1: {CLOSE}",
    "driver = '''a": f"1: {CLOSE}",
    'a = """b\n\nc': f"3: {CLOSE}",
    'driver = "C:\\x"': "1: a backslash in \"…\" begins an escape: put the text in single quotes: '…'",
    "a = [1,\n2": "2: a list is not closed: end it with ]",
    "a = {b = 1\n}": "1: a table is not closed: end it with }",
    "a = 1 # \x01": "1: there is a control character: remove it",
    "a = 1979-02-31": "1: invalid date or datetime: correct it as TOML wants it: https://toml.io",
    'a = "\\ud800"': "1: escaped character is not a Unicode scalar value: correct it as TOML wants it: ",
}


@pytest.mark.parametrize(("text", "said"), [*LIKELY.items(), *EXPECTED.items(), *SYNTAX.items()])
def test_an_error_has_its_line_what_is_wrong_and_what_helps(text: str, said: str) -> None:
    """Alone and in the second file; whoever has never seen TOML can act on it."""
    for texts in ((text + "\n",), ("driver = 'a'\n", text + "\n")):
        found = files(*texts)
        (complaint,) = complaints.of(found, found.problems)
        path = FILE if len(texts) == 1 else "/etc/libhook/config.d/1.toml"
        assert complaint.text.replace(FILE, path).startswith(f"{path}, line {said}".replace(FILE, path))
        assert complaint.file == path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 5000, "its lists or tables are nested too deeply: no setting needs that: write it flat"),
        ("write_deadline = " + "9" * 5000, "a number has too many digits: correct it"),
    ],
    ids=["nesting", "digits"],
)
def test_what_python_cannot_read_has_no_line(text: str, said: str) -> None:
    """The file is named all the same."""
    found = files(text)
    (complaint,) = complaints.of(found, found.problems)
    assert (complaint.text, complaint.line, complaint.key) == (f"{FILE}: {said}", 0, "")


def test_windows_lines_are_no_error() -> None:
    """And their lines are counted as an editor does."""
    found = files("dry_run = true\r\n\r\ndrvr = 1\r\n")
    assert [complaint.line for complaint in complaints.of(found, found.problems)] == [3]
    assert merged(files("dry_run = true\r\n")).dry_run


WRONG = ("dry_run = 1\n[domains.other]\nx = 1\n[domains.win11]\nsiblings = 1\ny = 2\n", "no TOML\n", "[devices.gpu]\n")


def test_all_errors_are_known_at_once() -> None:
    """Of each file all, in order; of one that is no TOML the first."""
    found = files(*WRONG)
    where = [(one.file.rpartition("/")[2], one.line) for one in complaints.of(found, found.problems)]
    assert where == [
        ("config.toml", 1),
        ("config.toml", 3),
        ("config.toml", 5),
        ("config.toml", 6),
        ("1.toml", 1),
        ("2.toml", 1),
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
    found = files(text)
    said = [one.text.partition(", ")[2] for one in complaints.of(found, found.problems)]
    assert [one.partition(": ")[0] for one in said] == [f"line {line}" for line in (2, 3, 4, 8, 10, 11)]
    win11 = 'domains."win11"'
    assert said[1:4] == [
        f'line 3: {win11}.run.screen.at is wrong: it must be "prepare" or "start" or "started"',
        f"line 4: {win11}.run.screen.user is wrong: it must be the name of a user other than root",
        f"line 8: unknown key {win11}.run.light.comand: it should probably be command",
    ]
    assert said[4] == f"line 10: unknown key {win11}.legacy.paht: it should probably be path"
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
    found = files(text)
    (complaint,) = complaints.of(found, found.problems)
    assert said in complaint.text


def test_the_refusal_says_the_first_that_matters_and_how_many_more_there_are() -> None:
    """One line for libvirt, and the command that shows the rest. Whom nothing is wrong for is not refused."""
    with pytest.raises(BadInput) as refused:
        merged(files(*WRONG), "win11")
    assert refused.value.line == (
        f"{FILE}, line 1: dry_run is 1: it must be true or false; and 5 more: libhook config shows them"
    )
    with pytest.raises(BadInput) as refused:
        merged(files("[domains.other]\nx = 1\n[domains.win11]\nsiblings = 1\n"), "win11")
    assert refused.value.message == f'{FILE}, line 4: domains."win11".siblings is 1'
    assert refused.value.hint.endswith("; and 1 more: libhook config shows them")
    with pytest.raises(BadInput) as refused:
        merged(files("driver = 1\n"), "win11")
    assert refused.value.hint == 'it must be a driver\'s name, or "auto"'


@pytest.mark.parametrize(
    ("content", "driver"),
    [
        (b"\xef\xbb\xbfdriver = 'a'\n", "a"),
        ("driver = 'ä'\n".encode("utf-16"), ""),
        (b"# \xe4\ndriver = 'a'\n", "a"),
        (b"dry_run = true\rdriver = 'a'\r", "a"),
    ],
    ids=["BOM", "UTF-16", "Latin-1", "CR"],
)
@pytest.mark.parametrize("name", ["a.toml", "a b;'$(x).toml"])
def test_the_command_that_is_advised_helps(tmp_path: Path, name: str, content: bytes, driver: str) -> None:
    """Pasted into a shell it makes TOML of the file, whatever the file's name is."""
    path = tmp_path / name
    path.write_bytes(content)

    def read() -> Settings:
        return settings.read([Source(str(path), path.read_bytes().decode("utf-8", "surrogateescape"))])

    (complaint,) = complaints.of(read(), read().problems)
    command = complaint.remedy[complaint.remedy.index("sed -i" if "sed -i" in complaint.remedy else "iconv -f") :]
    subprocess.run(["/bin/sh", "-ec", command], check=True, timeout=200, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if driver:
        assert read().problems == []
        assert read().sections[0].values["driver"] == driver
    else:  # a driver has no such name; but now it can be read
        assert [problem.what for problem in read().problems] == ["driver is 'ä'"]
