#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
pid=$(pidof qemu-system-x86_64)
chrt -f -a -p 1 $(pidof plasmashell)
sleep 30
echo 2 > /proc/irq/35/smp_affinity_list
