#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
set -x
source "/etc/libvirt/hooks/kvm.conf"
systemctl stop display-manager.service
systemctl stop ollama.service
echo 0 > /sys/class/vtconsole/vtcon0/bind
echo 0 > /sys/class/vtconsole/vtcon1/bind
echo efi-framebuffer.0 > /sys/bus/platform/drivers/efi-framebuffer/unbind
sleep 5
modprobe -r nvidia_drm
modprobe -r nvidia_modeset
modprobe -r nvidia_uvm
modprobe -r nvidia
virsh nodedev-detach $GPU_VIDEO
virsh nodedev-detach $GPU_AUDIO
modprobe vfio
modprobe vfio_pci
modprobe vfio_iommu_type1
