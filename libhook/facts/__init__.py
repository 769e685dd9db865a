# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libhook knows, as types: the guest, the host, the event, the settings, the journal entry.

Belongs here: immutable values, how each is read field by field, and questions that a value answers about itself.
Does not belong here: code that looks at the machine, decides or writes. Nothing here imports another folder.
"""
