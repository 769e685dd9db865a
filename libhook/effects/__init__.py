# SPDX-License-Identifier: LGPL-2.1-or-later
"""What writes: kernel attributes, the state in /run/libhook, the audit trail, the log; and the children that do it.

Belongs here: one narrow function for each thing that is changed. A reviewer reads this folder in one sitting.
Does not: what only looks (look/), what is to be written (kinds/), and whether it may be (handlers/).
"""
