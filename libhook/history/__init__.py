# SPDX-License-Identifier: LGPL-2.1-or-later
"""The audit trail of host devices, read back: ``libhook history``.

    files ─► reader: lines ─► records: what each says ─► pairing: who had what from when to when ─► order ─► a page,
                                                                                              a table, or JSON

Nothing here is imported by the hook.
"""
