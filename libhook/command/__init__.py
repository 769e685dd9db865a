# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line: its options, its output, and the doctor.

Belongs here: what a person types and reads. Does not belong here: anything that the hook needs.
"""
