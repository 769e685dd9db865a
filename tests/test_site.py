# SPDX-License-Identifier: LGPL-2.1-or-later
"""The site and the manual pages are made of docs/ without a warning, and the manual pages in the tree are up to date.

``python3 -m pytest tests/test_site.py --libhook-regenerate`` writes the manual pages anew.
"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MANUALS = ROOT / "packaging/man"


def _make(kind: str, folder: Path) -> None:
    """Run the command of CONTRIBUTING.md, but into this folder."""
    command = ["/usr/bin/python3", "-m", "sphinx", "-q", "-W", "--keep-going", "-b", kind, "-d", f"{folder}/read"]
    done = subprocess.run([*command, "docs", f"{folder}/made"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_site_has_every_page_in_its_menu(tmp_path: Path) -> None:
    """No warning, no page that nothing leads to, and no link that leads nowhere."""
    _make("html", tmp_path)
    pages = sorted(page.stem for page in (ROOT / "docs").glob("*.md"))
    front = (tmp_path / "made/index.html").read_text()
    assert [page for page in pages if not (tmp_path / f"made/{page}.html").exists()] == []
    assert [page for page in pages if page != "index" and f'href="{page}.html"' not in front] == []


def test_the_manual_pages_are_those_of_the_documents(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What is installed is what docs/ says, and the tools that read manuals have nothing to say against it."""
    _make("man", tmp_path)
    made = {page.name: page.read_text() for page in (tmp_path / "made").iterdir()}
    if request.config.getoption("--libhook-regenerate"):
        for name, text in made.items():
            (MANUALS / name).write_text(text)
    assert {page.name: page.read_text() for page in MANUALS.iterdir()} == made
    assert set(made) == {"libhook.8", "libhook.toml.5", "libhook-handlers.7"}


@pytest.mark.parametrize("page", sorted(MANUALS.iterdir()), ids=lambda page: page.name)
def test_a_manual_page_reads_well(page: Path) -> None:
    """mandoc and groff have nothing to say against it; its parts are there, and no mark of the source is left."""
    lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
    assert lint.stdout + lint.stderr == ""
    shown = subprocess.run(
        ["groff", "-Kutf8", "-man", "-t", "-ww", "-Tutf8", "-P-cbou", page], capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    headings = re.findall(r"^[A-Z].*", shown.stdout, flags=re.M)
    assert headings[1:4] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert "SEE ALSO" in headings
    prose = re.sub(r"^ {10,}.*", "", shown.stdout, flags=re.M)
    assert re.findall(r"\]\(|\*\*|^ *\|", prose, flags=re.M) == []


@pytest.mark.parametrize("page", sorted(MANUALS.iterdir()), ids=lambda page: page.name)
def test_a_manual_page_names_what_its_reader_has(page: Path) -> None:
    """Another manual page that there is, or a note with the place where install.sh puts the page."""
    wide = ("-rLL=300n", "-rHY=0")
    shown = subprocess.run(
        ["groff", "-Kutf8", "-man", "-t", "-Tutf8", "-P-cbou", *wide, page], capture_output=True, text=True, check=True
    )
    text, notes = f"{shown.stdout}\nNOTES\n".split("\nNOTES\n")[:2]
    assert re.findall(r"[\w-]+\.md\b", text) == []
    manuals = set(re.findall(r"\b(libhook[\w.-]*)\((\d)\)", text))
    assert {f"{name}.{section}" for name, section in manuals} <= {one.name for one in MANUALS.iterdir()}
    listed = re.findall(r"^ +\[(\d+)\] /usr/local/share/doc/libhook/(\S+)$", notes, flags=re.M)
    assert sorted(set(re.findall(r"[\w.]\[(\d+)\]", text))) == [number for number, _ in listed]
    assert [path for _, path in listed if not (ROOT / path).exists()] == []
