# SPDX-License-Identifier: LGPL-2.1-or-later
# no interpreter line
set -x
systemctl stop /usr/lib/systemd/system/sddm.service
systemctl --user stop pipewire.socket
modprobe nvme nvme_core
iptables -F
fuser -k /dev/nvidia0
rm -f /var/lib/libvirt/qemu/box.monitor
systemctl disable --now sshd
systemctl set-property --runtime init.slice AllowedCPUs=0
