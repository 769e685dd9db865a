#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
DATE=$(date +"%m/%d/%Y %R:%S :")
DISPMGR="null"
echo "$DATE Beginning of startup"
function stop_display_manager_if_running {
    if [[ -x /run/systemd/system ]] && echo "$DISPMGR" | grep -q "kde-plasma"; then
        echo "plasma"
    fi
    DISPMGR="display-manager"
    if systemctl is-active --quiet "$DISPMGR.service"; then
        grep -qsF "$DISPMGR" "/tmp/vfio-store-display-manager" || echo "$DISPMGR" >/tmp/vfio-store-display-manager
        systemctl stop "$DISPMGR.service"
        systemctl isolate multi-user.target
    fi
    while systemctl is-active --quiet "$DISPMGR.service"; do
        sleep "1"
    done
}
if pgrep -l "plasma" | grep "plasmashell"; then
    echo "$DATE desktop is plasma"
    DISPMGR="display-manager"
fi
stop_display_manager_if_running
if test -e "/tmp/vfio-bound-consoles"; then
    rm -f /tmp/vfio-bound-consoles
fi
for (( i = 0; i < 16; i++)); do
  if test -x /sys/class/vtconsole/vtcon"${i}"; then
      if [ "$(grep -c "frame buffer" /sys/class/vtconsole/vtcon"${i}"/name)" = 1 ]; then
	       echo 0 > /sys/class/vtconsole/vtcon"${i}"/bind
           echo "$i" >> /tmp/vfio-bound-consoles
      fi
  fi
done
sleep "1"
if lspci -nn | grep -e VGA | grep -s NVIDIA ; then
    echo "true" >/tmp/vfio-is-nvidia
    echo efi-framebuffer.0 > /sys/bus/platform/drivers/efi-framebuffer/unbind
    modprobe -r nvidia_uvm
    modprobe -r nvidia_drm
    modprobe -r nvidia_modeset
    modprobe -r nvidia
    modprobe -r i2c_nvidia_gpu
    modprobe -r drm_kms_helper
    modprobe -r drm
fi
if lspci -nn | grep -e VGA | grep -s AMD ; then
    echo "true" >/tmp/vfio-is-amd
    echo efi-framebuffer.0 > /sys/bus/platform/drivers/efi-framebuffer/unbind
    modprobe -r drm_kms_helper
    modprobe -r amdgpu
    modprobe -r radeon
    modprobe -r drm
fi
modprobe vfio
modprobe vfio_pci
modprobe vfio_iommu_type1
echo "$DATE End of startup"
