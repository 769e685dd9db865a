# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/testing.md and docs/own-handlers.md as their reader follows them: in a project that has only the wheel."""

import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import patience
import pytest

ROOT = Path(__file__).parents[1]
NOBODY = 65534
HANDLERS = dict(
    re.findall(r"`(\w+\.py)` [^`]*\n\n```python\n(.*?)```", (ROOT / "docs/own-handlers.md").read_text(), flags=re.S)
)
TESTS = dict(re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", (ROOT / "docs/testing.md").read_text(), flags=re.S))
SOURCES = ("libhook", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


class Project:
    """A folder with what the pages print, and a venv with libhook's wheel and the distribution's packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        source, self.python = folder / "source", str(folder / "venv/bin/python")
        for name in SOURCES:
            copied = ROOT / name
            if copied.is_dir():
                shutil.copytree(copied, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(copied, source / name)
        self._do("/usr/bin/python3", "-m", "venv", "--system-site-packages", str(folder / "venv"))
        pip = (self.python, "-m", "pip", "--quiet", "--disable-pip-version-check")
        self._do(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
        (self.wheel,) = folder.glob("*.whl")
        self._do(*pip, "install", "--no-index", "--no-deps", str(self.wheel))
        (packages,) = (folder / "venv/lib").glob("python3*/site-packages")
        patience.lengthen(packages, 60.0)
        shutil.rmtree(source)
        (folder / "project").mkdir()
        for name, text in (HANDLERS | TESTS).items():
            (folder / "project" / name).write_text(text)
        if os.geteuid() == 0:
            shutil.chown(folder / "project", NOBODY, NOBODY)
            folder.chmod(0o755)
        self.first = self.pytest("--libhook-regenerate")
        """What pytest printed the first time, when it wrote the golden plan."""

    def _do(self, *command: str) -> None:
        subprocess.run(command, cwd=self.folder, check=True, timeout=300)

    def pytest(self, *options: str) -> str:
        """Run the project's tests, as nobody, and return what pytest prints."""
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(self.folder / "project")}
        command = [self.python, "-I", "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
        user = NOBODY if os.geteuid() == 0 else None
        done = subprocess.run(
            command, cwd=self.folder / "project", env=environment, capture_output=True, text=True, check=False,
            timeout=300, user=user, group=user, extra_groups=None if user is None else [],
        )  # fmt: skip
        return done.stdout + done.stderr


@pytest.fixture(name="project", scope="module")
def _project() -> Iterator[Project]:
    folder = Path(tempfile.mkdtemp(prefix="libhook-outside-"))
    yield Project(folder)
    shutil.rmtree(folder)


def test_the_pages_are_run_as_they_are_printed(project: Project) -> None:
    """First with the option that writes the golden plan, then without it."""
    assert HANDLERS.keys() == {"night.py", "jumbo.py", "pause.py", "swap.py"}
    assert len(TESTS) == 4
    again = project.pytest()
    count = re.findall(r"^(\d+) passed in", project.first, flags=re.M)
    assert count, project.first
    assert re.findall(r"^(\d+) passed in", again, flags=re.M) == count, again
    named = re.findall(r"`(plans/[\w.]+)`", (ROOT / "docs/testing.md").read_text())
    written = [path.relative_to(project.folder / "project").as_posix() for path in project.folder.rglob("plans/*")]
    assert written == named


@pytest.mark.parametrize(
    ("name", "text", "broken", "said"),
    [
        ("night.py", "hour >= begins or", "", "test_no_guest_starts_at_night[2026-01-31T23:30-True]"),
        ("jumbo.py", '"mtu", 9000', '"mtu", 9001', "test_the_bridge_has_another_mtu_while_the_guest_runs"),
        ("swap.py", "int(text) > 100", "int(text) > 101", "test_metadata_that_are_no_number_are_warned_of[101]"),
        ("pause.py", '"resume"', '"pause"', "the plan is another now"),
    ],
)
def test_the_printed_tests_notice_a_broken_handler(
    project: Project, name: str, text: str, broken: str, said: str
) -> None:
    """They are no tests otherwise."""
    path = project.folder / "project" / name
    assert text in HANDLERS[name]
    path.write_text(HANDLERS[name].replace(text, broken))
    try:
        printed = project.pytest({"night.py": "test_night.py", "pause.py": "test_wrong.py"}.get(name, "test_values.py"))
    finally:
        path.write_text(HANDLERS[name])
    assert " failed" in printed
    assert said in printed


def test_the_wheel_has_every_file(project: Project) -> None:
    """setup.cfg names the folders, and what is no module; a new one may be forgotten."""
    with zipfile.ZipFile(project.wheel) as wheel:
        found = {name for name in wheel.namelist() if name.startswith("libhook/")}
    ours = (path for path in (ROOT / "libhook").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert found == {path.relative_to(ROOT).as_posix() for path in ours}


def test_the_page_of_history_is_made_from_the_wheel(project: Project) -> None:
    """With its template, style and script."""
    command = [project.python, "-I", "-m", "libhook", "history", "-if", "-", "--html", "-"]
    record = b"type=LOGIN msg=audit(1795545001.000:11): x"
    done = subprocess.run(command, cwd="/", input=record, capture_output=True, check=True, timeout=600)
    assert b"The trail names no host device." in done.stdout
    assert b"sha256-" in done.stdout
