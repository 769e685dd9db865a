#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
exec 9>/run/handover.lock
flock 9
cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor > /run/governor-before
systemctl stop bluetooth
echo 0 > /sys/bus/usb/devices/1-4/authorized
echo 1-4:1.0 > /sys/bus/usb/drivers/btusb/unbind
echo vfio-pci > /sys/bus/pci/devices/0000:03:00.0/driver_override
echo 0000:03:00.0 > /sys/bus/pci/devices/0000:03:00.0/driver/unbind
echo 0000:03:00.0 > /sys/bus/pci/drivers/vfio-pci/bind
modprobe -r amdgpu
loginctl terminate-seat seat0
