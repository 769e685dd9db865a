# SPDX-License-Identifier: LGPL-2.1-or-later
"""Code that writes: kernel attributes, the state in /run/libhook, audit records, the log.

Belongs here: one narrow function for each thing that libhook changes. A reviewer can read this folder in one sitting.
Does not belong here: code that only looks (look/), what to write (kinds/), and whether to write it (handlers/).
"""
