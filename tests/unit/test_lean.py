# SPDX-License-Identifier: LGPL-2.1-or-later
"""lxml without what it does not need reads as lxml does; in processes of their own, since it is there once for all."""

import json
import subprocess
from pathlib import Path

from xml_reading import DOCUMENTS, document, pci

TOP = Path(__file__).parents[2]
LEAN = """
import sys
sys.path.insert(0, sys.argv[1])
sys.path.append("/usr/lib/python3/dist-packages")
if sys.argv[2] == "lean":
    from libhook.xml import lean
    lean.load()
    left = {"re", "inspect", "gzip", "contextlib", "functools", "collections", "lxml._elementpath"} & set(sys.modules)
    assert not left, left
"""
READ = """
from libhook.errors import BadInput
from libhook.xml import domxml
import json
answers = []
for text in json.load(sys.stdin):
    try:
        answers.append(domxml.parse(text.encode("latin-1"), every_kind=True))
    except BadInput as error:
        answers.append(error.line)
print(json.dumps(answers))
"""
LATER = """
import re, collections.abc, contextlib, functools, inspect
from lxml import etree
assert re.compile("a+").match("aa")[0] == "aa" and inspect.isfunction(lambda: 0) and collections.Counter("a")
root = etree.fromstring(b"<a><b/></a>")
for use in (lambda: root.find("b"), lambda: etree.parse("/dev/null")):
    try:
        use()
    except (ImportError, etree.XMLSyntaxError) as error:
        print(type(error).__name__)
"""


def _run(code: str, way: str = "lean", stdin: str = "") -> str:
    command = ["/usr/bin/python3", "-I", "-S", "-c", LEAN + code, str(TOP), way]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_it_reads_as_lxml_does() -> None:
    """What libvirtd wrote, what is wrong in several ways, other encodings, namespaces, what QEMU itself is told."""
    good = document(pci("bus='1'"))
    doors = (
        b"<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='-device'/>"
        b"<qemu:arg value='vfio-pci,host=01:00.0'/></qemu:commandline></domain>"
    )
    texts = [
        *(path.read_bytes() for path in DOCUMENTS),
        good,
        *(good[:length] for length in range(0, len(good), 20)),
        good.replace(b"</domain>", doors),
        b"<?xml version='1.0' encoding='latin-1'?>" + good.replace(b"<name>", b"<name>\xe9"),
        good.decode().encode("utf-16"),
        good.replace(b"<name>", b"<name>\xff"),
        b"<!DOCTYPE x>" + good,
        b"<?x?><!-- -->" + good.replace(b"<name>", b"<name><![CDATA[<]]>&lt;<!-- x -->"),
        good.replace(b"<name>", b"<x:name>"),
        good.replace(b"<name>", b"<name>" + b"<a>" * 300),
        good.replace(b"<name>", b"<name>&e;"),
    ]
    stdin = json.dumps([text.decode("latin-1") for text in texts])
    lean, whole = _run(READ, "lean", stdin), _run(READ, "whole", stdin)
    assert lean == whole
    assert len(json.loads(lean)) == len(texts)


def test_what_was_left_out_is_there_for_others_and_no_use_of_it_is_taken_for_an_answer() -> None:
    """The modules themselves can be imported afterwards; lxml, which has none of them, says so where it needs one."""
    assert _run(LATER).split() == ["ImportError", "XMLSyntaxError"]
