# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules that hold for every file of the project."""

import configparser
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SPDX = "SPDX-License-Identifier: LGPL-2.1-or-later"
WITHOUT_SPDX = {"LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"}
SOURCE_LINES = 330  # "about 300"


def _files() -> list[Path]:
    """Give every file that is, or is about to be, tracked."""
    git = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git clone")
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]


def _is_source(path: Path) -> bool:
    return "data" not in path.relative_to(ROOT).parts and path.suffix in {"", ".py", ".sh", ".toml", ".cfg"}


def test_every_source_file_names_its_license_first() -> None:
    """The SPDX line is the first of each source file, or the second after a #! line."""
    without = [
        str(path.relative_to(ROOT))
        for path in _files()
        if _is_source(path)
        and path.name not in WITHOUT_SPDX
        and path.stat().st_size
        and not any(SPDX in line for line in path.read_text(errors="replace").splitlines()[:2])
    ]
    assert without == []


def test_no_source_file_grows_past_what_is_read_in_one_sitting() -> None:
    """Python and shell files stay under about 300 lines. A test file is as long as its subject."""
    long = [
        (str(path.relative_to(ROOT)), lines)
        for path in _files()
        if _is_source(path)
        and path.is_relative_to(ROOT / "libhook")
        and (lines := len(path.read_text(errors="replace").splitlines())) > SOURCE_LINES
    ]
    assert long == []


def test_setup_cfg_packages_each_package_that_exists() -> None:
    """A package left out of setup.cfg would be missing from what pip installs."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = set(config["options"]["packages"].split())
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "libhook").rglob("__init__.py")}
    assert found <= named
