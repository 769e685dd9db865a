#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
modprobe -r vfio_pci
modprobe -r vfio_iommu_type1
modprobe -r vfio
if grep -q "true" "/tmp/vfio-is-nvidia" ; then
    modprobe drm
    modprobe drm_kms_helper
    modprobe i2c_nvidia_gpu
    modprobe nvidia
    modprobe nvidia_modeset
    modprobe nvidia_drm
    modprobe nvidia_uvm
fi
if  grep -q "true" "/tmp/vfio-is-amd" ; then
    modprobe drm
    modprobe amdgpu
    modprobe radeon
    modprobe drm_kms_helper
fi
input="/tmp/vfio-store-display-manager"
while read -r DISPMGR; do
  if command -v systemctl; then
    systemctl start "$DISPMGR.service"
  fi
done < "$input"
input="/tmp/vfio-bound-consoles"
while read -r consoleNumber; do
  if test -x /sys/class/vtconsole/vtcon"${consoleNumber}"; then
      echo 1 > /sys/class/vtconsole/vtcon"${consoleNumber}"/bind
  fi
done < "$input"
