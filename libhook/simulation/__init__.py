# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that is a folder, and reacts to writes as the kernel does: the demo and the tests run on it.

    world.py, hosts.py      a host described in a few lines, and examples
    build.py                makes the folder
    kernel.py               reacts to writes; faults.py says what goes wrong, and when
    libvirt.py, guests.py   play libvirtd's part, and a guest's
    snapshot.py             what a guest's life changed
    demo.py                 all of it, shown

What the kernel does is taken from drivers/base/{bus,dd,driver}.c, drivers/pci/{pci-driver,pci-sysfs,iov}.c,
drivers/vfio and drivers/iommu/iommu.c of Linux 6.x.
"""
