# SPDX-License-Identifier: LGPL-2.1-or-later
"""The steps of an event: look, plan, journal, apply, record, and on failure undo.

Belongs here: the order of the steps, locks, and whose devices may be given back. run.py, beside this folder, calls it.
Does not belong here: what a single action does (kinds/), and what the command line prints (command/).
"""
