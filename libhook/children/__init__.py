# SPDX-License-Identifier: LGPL-2.1-or-later
"""Child processes: whatever may never return is done by one, until a deadline.

Belongs here: how a child is started, asked, waited for and left behind, and the lock of the version that they run.
Does not belong here: what the children do.
"""
