#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
modprobe -r vfio_pci
virsh nodedev-reattach pci_0000_01_00_1
virsh nodedev-reattach pci_0000_01_00_0
modprobe nvidia nvidia_modeset nvidia_uvm nvidia_drm
systemctl start coolercontrold.service
systemctl start sddm
