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
project_copyright = "the authors of libhook. License: LGPL-2.1-or-later"
release = re.findall(r'__version__ = "(.*)"', (Path(__file__).parent.parent / "libhook/__init__.py").read_text())[0]
today = "2026-11-27"
"""The date in the manual pages: that of the release."""
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
smartquotes = False
"""What looks like code may be pasted: its quotes and hyphens stay."""
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
SYNOPSES = {
    "libhook": "libhook COMMAND [OPTION ...] [ARGUMENT ...]\nlibhook COMMAND --help\nlibhook --version",
    "libhook.toml": "/etc/libhook/config.toml\n/etc/libhook/config.d/*.toml",
    "libhook-handlers": "/etc/libhook/handlers/NAME.py\n/etc/libhook/handlers/NAME/__init__.py\n\n"
    "libhook handlers [--json] [enable|disable] [NAME]",
}
DOCUMENTS = "/usr/local/share/doc/libhook/docs"
"""Where install.sh puts the pages that are in no manual."""


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
            also = ", ".join(manual_named(other) for other in MANUALS if other != name)
            begin = f"## Synopsis\n\n```text\n{SYNOPSES[name]}\n```\n\n## Description"
            head = re.sub(r"^# .*", rf"\g<0>\n\n{begin}", text, count=1)
            text = "\n\n".join((head, *others, f"## See also\n\n{also}\n"))
            return f"---\norphan: true\n---\n{with_notes(folder, name, text)}"
    return f"---\norphan: true\n---\n{text}"


def manual_named(name: str) -> str:
    """How a manual refers to another one."""
    return f"**{name}**({MANUALS[name][0]})"


def with_notes(folder: Path, manual: str, text: str) -> str:
    """A manual whose links lead somewhere: to another manual by name, to a page in no manual by a note at the end."""
    notes: list[str] = []

    def said(link: "re.Match[str]") -> str:
        words, page = link[1], link[2]
        (other,) = [name for name, (*_, pages) in MANUALS.items() if page in pages] or [""]
        if other:
            return words if other == manual else f"{words} ({manual_named(other)})"
        if page not in notes:
            notes.append(page)
        return f"{words}\\[{notes.index(page) + 1}\\]"

    text = re.sub(r"\[([^]]+)\]\(([\w-]+)\.md(?:#[\w-]+)?\)", said, text)
    if not notes:
        return text
    pages = "\n".join(
        f"- `[{number}]` `{DOCUMENTS}/{page}.md`: {title(folder, page)}" for number, page in enumerate(notes, 1)
    )
    where = "The tutorial and all other pages are there, too, or below another `--prefix` that install.sh was given."
    return f"{text}\n## Notes\n\n{pages}\n\n{where}\n"


def title(folder: Path, page: str) -> str:
    """A page's heading."""
    return (folder / f"{page}.md").read_text().partition("\n")[0].removeprefix("# ")


def lower(page: Path) -> str:
    """The text of a page without what looks like a heading in its blocks of code."""
    return re.sub(
        r"^```.*?^```", lambda block: re.sub("^#", " #", block[0], flags=re.M), page.read_text(), flags=re.M | re.S
    )


def tree(title: str, pages: list[str]) -> str:
    """A list of pages for Sphinx, which the page itself does not show."""
    return f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(pages) + "\n```\n"


class Manual(SphinxPostTransform):
    """What a terminal shows badly is made otherwise: tables, and lists of options, become lists of definitions."""

    default_priority = 900
    builders = ("man",)

    def run(self, **_: object) -> None:
        """Change the document in place."""
        for table in list(self.document.findall(nodes.table)):
            table.replace_self(as_list(table))
        for items in list(self.document.findall(nodes.bullet_list)):
            if all(defines(item) for item in items):
                items.replace_self(as_definitions(items))


def defines(item: nodes.Node) -> bool:
    """Whether an item of a list is one paragraph that begins with code and a colon, as an option does."""
    first, *more = item.children
    if more or not isinstance(first, nodes.paragraph) or not isinstance(first[0], nodes.literal):
        return False
    return any(isinstance(child, nodes.Text) and child.startswith(": ") for child in first)


def as_definitions(items: nodes.bullet_list) -> nodes.definition_list:
    """What is before the colon, with what is after it below."""
    found = nodes.definition_list()
    for item in items:
        said = item[0].children
        colon = next(n for n, child in enumerate(said) if isinstance(child, nodes.Text) and child.startswith(": "))
        meaning = nodes.paragraph("", "", nodes.Text(said[colon].astext()[2:]), *said[colon + 1 :])
        found += nodes.definition_list_item("", nodes.term("", "", *said[:colon]), nodes.definition("", meaning))
    return found


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
    """Take out of the manual pages what says nothing: the author, who is named again, and empty lines.

    ``mandoc -T lint`` complains of an empty line behind a heading.
    """
    for _, name, _, _, section in man_pages if app.builder.name == "man" and not exception else ():
        page = Path(app.outdir, f"{name}.{section}")
        text = re.sub(r"^\.SH AUTHOR\n.*\n", "", page.read_text(), flags=re.M | re.I)
        page.write_text(re.sub(r"^(\.S[HS] .*\n)\.sp\n", r"\1", text, flags=re.M))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of the above."""
    app.connect("source-read", add_what_sphinx_needs)
    app.add_post_transform(Manual)
    app.connect("build-finished", tidy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
