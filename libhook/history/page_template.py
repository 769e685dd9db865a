# SPDX-License-Identifier: LGPL-2.1-or-later
"""Renders the page's template. Every text is made printable, then escaped, whoever chose it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from libhook.errors import LibhookError, printable
from libhook.history.page_names import name_shown, plain

if TYPE_CHECKING:
    from jinja2 import Template

_SCRIPTS = "page.js", "answer.js", "pointing.js"
_PARTS = 500
"""How many small texts are given as one."""


def template() -> Template:
    """Load the template. LibhookError without jinja2."""
    try:
        import jinja2  # takes 50 ms, and only this page needs it
        from markupsafe import Markup
    except ImportError:
        raise LibhookError(
            "the page needs jinja2", "install python3-jinja2 (dnf, apt-get, zypper), python-jinja (pacman)"
        ) from None

    def shown(text: object) -> object:
        return printable(text) if isinstance(text, str) and not isinstance(text, Markup) else text

    files = jinja2.PackageLoader("libhook.history")
    environment = jinja2.Environment(
        loader=files,
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = {name: files.get_source(environment, name)[0] for name in ("page.css", *_SCRIPTS)}
    script = f'(() => {{\n"use strict";\n{"".join(parts[name] for name in _SCRIPTS)}}})();\n'
    for name, text in (("style", parts["page.css"]), ("script", script)):
        environment.globals[name] = Markup(text)  # noqa: S704 - it is ours
        environment.globals[f"{name}_hash"] = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    environment.globals |= {"raw": Markup, "plain": plain, "name_shown": name_shown}
    return environment.get_template("page.html.j2")


def render(page: Template, **given: Any) -> Iterator[str]:  # noqa: ANN401 - as the template needs
    """Give the page in parts."""
    stream = page.stream(**given)
    stream.enable_buffering(_PARTS)
    return iter(stream)
