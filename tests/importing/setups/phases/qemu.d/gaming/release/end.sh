#!/bin/bash
modprobe -r vfio_pci
virsh nodedev-reattach pci_0000_01_00_1
virsh nodedev-reattach pci_0000_01_00_0
modprobe nvidia nvidia_modeset nvidia_uvm nvidia_drm
systemctl start coolercontrold.service
systemctl start sddm
