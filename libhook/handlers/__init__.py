# SPDX-License-Identifier: LGPL-2.1-or-later
"""Policy: pure functions from a situation to what is wanted, refused, warned of and recorded.

Belongs here: decisions. Does not: a look at the machine, a write, an import of lxml.
"""
