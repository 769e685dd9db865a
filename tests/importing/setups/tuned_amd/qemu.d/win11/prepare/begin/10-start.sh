#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
systemctl stop gdm
echo 0000:03:00.0 > /sys/bus/pci/drivers/amdgpu/unbind
modprobe -r amdgpu
for unit in system.slice user.slice init.scope; do
  systemctl set-property --runtime -- $unit AllowedCPUs=0,1,8,9
done
echo 00000303 > /sys/devices/virtual/workqueue/cpumask
for governor in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do
  echo performance > "$governor"
done
sync
echo 3 > /proc/sys/vm/drop_caches
echo 1 > /proc/sys/vm/compact_memory
