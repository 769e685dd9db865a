# SPDX-License-Identifier: LGPL-2.1-or-later
"""Python imports this at its start where this folder is on its path: programs that tests start are counted too."""

import lines  # noqa: F401 - it counts when LIBHOOK_LINES is set
