# shellcheck shell=sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# In place of what daemons.sh does, where systemd is process 1: the distribution's own units.

start_udev() { udevadm settle --timeout=600; }

start_journal() { test -S /run/systemd/journal/socket; }

start_auditd() { timeout 300 systemctl start auditd && wait_until 150 test -s /var/log/audit/audit.log; }

# QEMU is another user here and has a /dev of its own, as the distribution sets it up.
start_libvirtd() {
    configure_libvirtd 'security_driver = "none"'
    timeout 450 systemctl start libvirtd && wait_until 300 virsh -q uri
}
