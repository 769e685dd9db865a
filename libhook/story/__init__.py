# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens in an event, in order: look, plan, journal, apply, record, and on failure undo.

Belongs here: the order of things, locks, and who may be given back. run.py, beside this folder, begins it.
Does not: what a single action does (kinds/), and what the command line prints (command/).
"""
