# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns old hook scripts into settings: ``libhook import``. bash runs them in a sandbox.

Belongs here: finding the scripts, the imagined host, the sandbox, its trace, the translation, the report. Does not
belong here: anything that the hook needs. The hook never imports it.
"""
