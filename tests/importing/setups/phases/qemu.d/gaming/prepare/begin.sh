#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
set -e
systemctl stop sddm
systemctl stop coolercontrold.service
sleep 3
modprobe -r nvidia_drm nvidia_modeset nvidia_uvm nvidia
virsh nodedev-detach pci_0000_01_00_0
virsh nodedev-detach pci_0000_01_00_1
modprobe vfio vfio_pci vfio_iommu_type1
