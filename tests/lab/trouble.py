# SPDX-License-Identifier: LGPL-2.1-or-later
"""What keeps the lab from its work."""


class LabError(Exception):
    """What the caller reads, in one line, when the lab cannot do its work. Another boot may do."""

    status = 70


class JobError(LabError):
    """The same, when its job is to blame: another boot would end so, too."""

    status = 71
