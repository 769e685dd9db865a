# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that is a folder, and reacts to writes as the kernel does: the demo and the tests run on it.

world.py describes a host, build.py makes the folder, kernel.py reacts to writes, libvirt.py plays libvirtd's
part, snapshot.py tells what a guest's life changed. What the kernel does is taken from
drivers/base/{bus,dd,driver}.c, drivers/pci/{pci-driver,pci-sysfs,iov}.c, drivers/vfio and
drivers/iommu/iommu.c of Linux 6.x.
"""
