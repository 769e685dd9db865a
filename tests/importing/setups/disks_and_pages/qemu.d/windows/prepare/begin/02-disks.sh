#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
powerprofilesctl set performance
umount /mnt/games 2>/dev/null || true
umount /mnt/work || true
echo vfio-pci > /sys/bus/pci/devices/0000:04:00.0/driver_override
echo 0000:04:00.0 > /sys/bus/pci/devices/0000:04:00.0/driver/unbind
echo 0000:04:00.0 > /sys/bus/pci/drivers_probe
