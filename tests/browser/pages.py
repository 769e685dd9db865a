# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures: the browser, and pages as the command itself makes them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, Making

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One for all: its start takes longest."""
    with Browser() as started:
        yield started


@pytest.fixture(scope="session")
def making(tmp_path_factory: pytest.TempPathFactory) -> Making:
    """Makes the page of a log."""

    def make(log: bytes, *options: str) -> Path:
        folder = tmp_path_factory.mktemp("page")
        (folder / "audit.log").write_bytes(log)
        made = folder / "page.html"
        command = [
            "/usr/bin/python3",
            "-m",
            "libhook",
            "history",
            "-if",
            str(folder / "audit.log"),
            "--html",
            str(made),
            *options,
        ]
        subprocess.run(command, cwd=ROOT, check=True, env={"PATH": "/usr/bin:/bin", "TZ": "Europe/Berlin"})
        return made

    return make
