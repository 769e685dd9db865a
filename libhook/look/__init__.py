# SPDX-License-Identifier: LGPL-2.1-or-later
"""Code that only looks: sysfs, device nodes, who has them open, what the host uses, libvirt's files, processes.

Belongs here: reading the machine into facts. A look that may sleep is done by a child.
Does not belong here: writes, and conclusions from what is seen.
"""
