# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kinds of action. All code that is special to one kind is in its own file or folder.

Belongs here: how an action is printed, journalled, carried out, read back and undone.
Does not belong here: whether an action is wanted (handlers/), and when it is done (story/).
"""
