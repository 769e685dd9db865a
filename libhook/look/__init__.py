# SPDX-License-Identifier: LGPL-2.1-or-later
"""What only looks: sysfs, device nodes, who has them open, what the host uses, libvirt's files, other processes.

Belongs here: reading the machine into facts. A look that may sleep is done by a child.
Does not: writes, and what follows from what is seen.
"""
