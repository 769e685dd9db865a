#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
echo 0000:04:00.0 > /sys/bus/pci/drivers/vfio-pci/unbind
echo 0000:04:00.0 > /sys/bus/pci/drivers/nvme/bind
mount /mnt/games
mount /mnt/work
echo 0 > /proc/sys/vm/nr_hugepages
powerprofilesctl set power-saver
