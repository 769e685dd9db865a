# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history``: reads the audit trail of host devices back.

    files ─► reader: lines ─► records: what each says ─► pairing: who had what from when to when ─► order ─► a page,
                                                                                              a table, or JSON

    --follow:   tail: lines as they come ─► the same ─► events: what is new or has changed ─► telling: a line of each

The hook imports nothing from here.
"""
