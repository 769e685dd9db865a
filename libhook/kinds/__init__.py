# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kinds of action. One file has all that is special to one of them.

Belongs here: how an action is printed, journalled, carried out, read back and undone.
Does not: whether it is wanted (handlers/), and when it is done (story/).
"""
