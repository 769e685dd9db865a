# SPDX-License-Identifier: LGPL-2.1-or-later
"""``python3 -m libhook``: the same as the ``libhook`` command, without installing."""

from libhook.cli import main

main()
