# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns the guest's XML into a Domain. Only this folder imports lxml.

Belongs here: what the elements mean, and how hostile text is kept harmless.
Does not belong here: what is to be done about it.
"""
