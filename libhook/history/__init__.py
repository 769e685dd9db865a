# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history``: reads the audit trail of host devices back.

    files ─► reader: lines ─► records: what each says ─► pairing: who had what from when to when ─► order ─► a page,
                                                                                              a table, or JSON

The hook imports nothing from here.
"""
