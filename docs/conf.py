# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes a site and the manual pages of these pages, with Sphinx and MyST.

    /usr/bin/python3 -m sphinx -W -b html docs site
    /usr/bin/python3 -m sphinx -W -b man docs packaging/man

The pages read well without Sphinx, too. So what Sphinx needs besides is added here: the tree of the pages is made of
the lists of links in index.md.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

project = "libhook"
author = "the authors of libhook"
project_copyright = author
release = re.findall(r'__version__ = "(.*)"', (Path(__file__).parent.parent / "libhook/__init__.py").read_text())[0]
today = "2026-11-27"
"""The date in the manual pages: that of the release."""
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"libhook {release}"
html_copy_source = False
html_show_sourcelink = False
html_baseurl = ""

MANUALS = {
    "libhook": (8, "hands PCI devices to libvirt's guests, and records it", ["commands"]),
    "libhook.toml": (5, "the settings of libhook", ["configuration", "keys", "settings"]),
    "libhook-handlers": (7, "handlers of your own for libhook", ["own-handlers", "testing"]),
}
"""Each manual page: its section, what it says of itself, and the pages that it is made of."""
man_pages = [(pages[0], name, about, author, section) for name, (section, about, pages) in MANUALS.items()]
man_show_urls = False


def add_what_sphinx_needs(app: Sphinx, page: str, content: list[str]) -> None:
    """Give the front page the tree of all pages, or the first page of a manual the other ones."""
    if app.builder.name == "man":
        content[0] = manual(Path(str(app.srcdir)), page, content[0])
    elif page == "index":
        content[0] += "".join(
            tree(title, re.findall(r"^- \[.*\]\(([\w-]+)\.md\)", text, flags=re.M))
            for title, text in re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", content[0], flags=re.M | re.S)
        )


def manual(folder: Path, page: str, text: str) -> str:
    """A manual's text: its pages one after the other, each a section. Another page is in no manual."""
    for name, (_, _, pages) in MANUALS.items():
        if pages[0] == page:
            others = (re.sub(r"^#", "##", lower(folder / f"{one}.md"), flags=re.M) for one in pages[1:])
            also = ", ".join(f"**{other}**({section})" for other, (section, *_) in MANUALS.items() if other != name)
            head = re.sub(r"^# .*", r"\g<0>\n\n## Description", text, count=1)
            text = "\n\n".join((head, *others, f"## See also\n\n{also}\n"))
    return f"---\norphan: true\n---\n{text}"


def lower(page: Path) -> str:
    """The text of a page without what looks like a heading in its blocks of code."""
    return re.sub(
        r"^```.*?^```", lambda block: re.sub("^#", " #", block[0], flags=re.M), page.read_text(), flags=re.M | re.S
    )


def tree(title: str, pages: list[str]) -> str:
    """A list of pages for Sphinx, which the page itself does not show."""
    return f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(pages) + "\n```\n"


class Manual(SphinxPostTransform):
    """What a terminal shows badly is made otherwise: tables become lists."""

    default_priority = 900
    builders = ("man",)

    def run(self, **_: object) -> None:
        """Change the document in place."""
        for table in list(self.document.findall(nodes.table)):
            table.replace_self(as_list(table))


def as_list(table: nodes.table) -> nodes.definition_list:
    """A row's first cell with the others below it, each after its heading."""
    headings = [entry.astext() for entry in next(table.findall(nodes.thead)).findall(nodes.entry)]
    found = nodes.definition_list()
    for row in next(table.findall(nodes.tbody)).findall(nodes.row):
        first, *others = row.findall(nodes.entry)
        item = nodes.definition_list_item("", nodes.term("", "", *(child for one in first for child in one.children)))
        said = nodes.paragraph()
        for heading, entry in zip(headings[1:], others, strict=True):
            if not entry.astext():
                continue
            if heading and len(others) > 1:
                said += [nodes.Text("; " if said.children else ""), nodes.emphasis("", heading), nodes.Text(": ")]
            said += [child for one in entry for child in one.children]
        item += nodes.definition("", said)
        found += item
    return found


def tidy(app: Sphinx, exception: Exception | None) -> None:
    """Take out of the manual pages the empty lines behind a heading, which ``mandoc -T lint`` complains of."""
    for _, name, _, _, section in man_pages if app.builder.name == "man" and not exception else ():
        page = Path(app.outdir, f"{name}.{section}")
        page.write_text(re.sub(r"^(\.S[HS] .*\n)\.sp\n", r"\1", page.read_text(), flags=re.M))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of the above."""
    app.connect("source-read", add_what_sphinx_needs)
    app.add_post_transform(Manual)
    app.connect("build-finished", tidy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
