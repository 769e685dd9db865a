# SPDX-License-Identifier: LGPL-2.1-or-later
"""What devices are called: vendor, model and ids, for who reads a command's output. No hook event imports it."""
