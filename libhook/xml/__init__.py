# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's XML to a Domain. The only place that imports lxml.

Belongs here: what the elements mean, and how hostile text is kept harmless.
Does not: what is to be done about it.
"""
