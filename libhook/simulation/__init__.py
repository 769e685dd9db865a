# SPDX-License-Identifier: LGPL-2.1-or-later
"""A simulated host for the demo and the tests. It is a folder that reacts to writes as the kernel does.

    world.py, hosts.py      a host described in a few lines, and examples
    build.py                makes the folder
    kernel.py               reacts to writes; faults.py makes calls go wrong
    libvirt.py, guests.py   play libvirtd and a guest
    snapshot.py             shows what a guest's life changed
    demo.py                 shows all of it

The behaviour follows drivers/base/{bus,dd,driver}.c, drivers/pci/{pci-driver,pci-sysfs,iov}.c, drivers/vfio and
drivers/iommu/iommu.c of Linux 6.x.
"""
