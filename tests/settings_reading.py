# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings of a guest, from texts of files."""

from collections.abc import Iterable

from libhook.facts import settings
from libhook.facts.config import Config, Source
from libhook.facts.merged import config_of, merge
from libhook.facts.problem import refusal
from libhook.facts.settings import Device, Settings

FILE = "/etc/libhook/config.toml"


def files(*texts: str) -> Settings:
    """config.toml, and further files of config.d."""
    paths = [FILE, *(f"/etc/libhook/config.d/{number}.toml" for number in range(1, len(texts)))]
    return settings.read([Source(path, text) for path, text in zip(paths, texts, strict=True)])


def parse(text: str, name: str = "", uuid: str = "", devices: Iterable[Device] = ()) -> Config:
    """What one file says for a guest. Raises the refusal."""
    return merged(files(text), name, uuid, devices)


def merged(found: Settings, name: str = "", uuid: str = "", devices: Iterable[Device] = ()) -> Config:
    """What these files say for a guest. Raises the refusal."""
    sections = found.about(name, uuid, devices)
    if wrong := refusal(found.problems, [problem for section in sections for problem in section.problems]):
        raise wrong
    return config_of(merge(sections))
