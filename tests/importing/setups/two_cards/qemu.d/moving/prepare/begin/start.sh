#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
systemctl stop gdm
modprobe -r nvidia_drm nvidia_modeset nvidia_uvm nvidia
virsh nodedev-detach pci_0000_01_00_0
ln -sf /etc/X11/other.conf /etc/X11/xorg.conf.d/10-card.conf
systemctl start gdm
