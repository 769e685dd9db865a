# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line: its options, what it prints, what the doctor finds.

Belongs here: what a person reads and types. Does not: anything that a hook needs.
"""
