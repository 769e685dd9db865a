# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that run in the sandbox only: who starts the scripts there, and who stands in for the host's programs.

They import nothing of libhook, since it is not in the sandbox.
"""
