# SPDX-License-Identifier: LGPL-2.1-or-later
"""The policy: pure functions from a situation to what is wanted, refused, warned about and recorded.

Belongs here: decisions.
Does not belong here: looking at the machine, writing, importing lxml.
"""
