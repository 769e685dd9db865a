#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
systemctl stop gdm
virsh nodedev-reattach pci_0000_01_00_0
modprobe -a nvidia nvidia_modeset nvidia_uvm nvidia_drm
rm -f /etc/X11/xorg.conf.d/10-card.conf
systemctl start gdm
