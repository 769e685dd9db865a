#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
set -x
source "/etc/libvirt/hooks/kvm.conf"
modprobe -r vfio_pci
modprobe -r vfio_iommu_type1
modprobe -r vfio
virsh nodedev-reattach $GPU_VIDEO
virsh nodedev-reattach $GPU_AUDIO
echo 1 > /sys/class/vtconsole/vtcon0/bind
echo 0 > /sys/class/vtconsole/vtcon1/bind
nvidia-xconfig --query-gpu-info > /dev/null 2>&1
echo "efi-framebuffer.0" > /sys/bus/platform/drivers/efi-framebuffer/bind
modprobe nvidia_drm
modprobe nvidia_modeset
modprobe nvidia_uvm
modprobe nvidia
systemctl start display-manager.service
