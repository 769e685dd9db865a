# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pages of reference, and the sample of the settings, are what the code says."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import reference
from settings_reading import parse

from libhook.facts import keys
from libhook.facts.config import Config

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("page", reference.PAGES)
def test_the_page_is_what_the_code_says(page: str, request: pytest.FixtureRequest) -> None:
    """No key, command or option is missing, and none is there that libhook does not have."""
    made = reference.PAGES[page]()
    if request.config.getoption("--libhook-regenerate"):
        (ROOT / page).write_text(made)
    assert (ROOT / page).read_text() == made


@pytest.mark.parametrize("name", reference.commands())
def test_a_synopsis_is_what_help_prints(name: str) -> None:
    """With which options exclude each other, and what may be given several times."""
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "libhook", name, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    usage = " ".join(done.stdout.partition("\n\n")[0].split()).replace("[-h] ", "")
    page = (ROOT / "docs/commands.md").read_text()
    (shown,) = re.findall(rf"^## libhook {name}\n\n```text\n(.*?)```", page, flags=re.M | re.S)
    assert " ".join(shown.split()) == usage.removeprefix("usage: ").removesuffix(" [-h]")


def test_every_key_is_described() -> None:
    """Those that the settings know, and no others; each example may stand somewhere, and asks for something."""
    assert sorted(reference.KEYS) == sorted(keys.known())
    for key, about in reference.KEYS.items():
        assert keys.expectation(key, tomllib.loads(f"value = {about.example}")["value"]) == "", key
        assert reference.places(key), key
        assert about.example != reference.default(key)


def test_every_place_matters() -> None:
    """What consents to a risk may not be in a section for guests or devices to come; an old script not for a device."""
    assert reference.places("siblings") == ["top", "guest"]
    assert reference.places("end") == ["guest"]
    assert reference.places("legacy") == ["top", "pattern", "guest"]
    assert reference.places("sleep") == ["top", "device", "pattern", "guest"]


def test_the_sample_without_its_comments_is_right() -> None:
    """The first part is the defaults; all of it is settings that hold for that guest."""
    text = (ROOT / "packaging/libhook.toml.sample").read_text()
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == []
    settings = "\n".join(
        line[1:] for line in text.splitlines() if line.startswith("#") and not line.startswith(("# ", "#\n"))
    )
    defaults, _, asked = settings.partition("[domains.")
    assert parse(defaults) == Config()
    found = parse(defaults + "[domains." + asked, "win11")
    assert set(found.actions) == set(keys.OF_KINDS)
