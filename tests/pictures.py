# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes the pictures of docs/ from the real commands, on a simulated host: ``/usr/bin/python3 tests/pictures.py``.

It needs rich and Chromium. A command is run in a terminal, and what it shows there becomes an SVG.
"""

import base64
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / part) for part in (".", "tests", "tests/sim", "tests/unit", "tests/browser")]

from chromium import Browser  # noqa: E402 - found only now
from page_stage import Stage  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.text import Text  # noqa: E402
from trail_writing import OTHER, Trail  # noqa: E402

from libhook.simulation.build import scratch  # noqa: E402

PICTURES = ROOT / "docs/pictures"
COLUMNS = 92
COMMANDS = {"devices": "libhook devices"}
"""The pictures of a terminal."""
CARD, SOUND, DISK = "0000:03:00.0", "0000:03:00.1", "0000:04:00.0"
IDS = {CARD: "1002:73bf", SOUND: "1002:ab28", DISK: "144d:a808"}
MINUTE = 60_000


def svg(command: str, shown: str) -> str:
    """Draw a terminal. The font is the reader's: a picture must not load anything."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text(f"# {command}\n") + Text.from_ansi(shown), soft_wrap=True)
        drawn = console.export_svg(title=command, unique_id="libhook")
    return re.sub(r"@font-face \{.*?\}\n\s*", "", drawn, flags=re.S).replace("Fira Code, ", "")


def week() -> Trail:
    """A week in which two guests have had a card, one of them in vain for once, and a third one a disk."""
    log = Trail(now=1_795_000_000_000)
    for day in range(7):
        about: dict[str, Any] = {"vm": "win11"} if day % 3 else {"vm": "build", "uuid": OTHER}
        failed = day == 4
        log.now += (300 + 53 * day) * MINUTE
        for device in (CARD, SOUND):
            for who in ("libhook", "libvirtd"):
                ids = IDS[device] if who == "libhook" else ""
                log.device(who, "start", not failed or who == "libvirtd", device=device, ids=ids, **about)
        log.control("start", not failed, **about)
        if failed:
            continue
        log.now += (90 + 41 * day) * MINUTE
        for device in (CARD, SOUND):
            log.device("libhook", "stop", device=device, ids=IDS[device], **about)
        log.control("stop", **about)
        if day == 2:
            log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=400 * MINUTE)
        if day == 5:
            uuid = "8d0e66a1-9bd0-4d5e-8d8a-6a1f3ad2f0b1"
            log.device("libhook", "attach", device=DISK, ids=IDS[DISK], vm="nas", uuid=uuid)
    return log


def main() -> None:
    """Make all of them."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(scratch(), Path(folder))
        stage.environment["COLUMNS"] = str(COLUMNS)
        for name, command in COMMANDS.items():
            (PICTURES / f"{name}.svg").write_text(svg(command, stage.run(command, at_terminal=True)[1]))
        (stage.folder / "work/audit.log").write_bytes(bytes(week()))
        stage.run("libhook history -if audit.log --html page.html")
        with Browser() as browser:
            browser.open(stage.folder / "work/page.html", 900, "light")
            clip = {"x": 0, "y": 0, "width": 900, "height": 900, "scale": 1}
            answer = browser.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
            (PICTURES / "history-page.png").write_bytes(base64.b64decode(answer["data"]))
        stage.libvirt.end()


if __name__ == "__main__":
    main()
