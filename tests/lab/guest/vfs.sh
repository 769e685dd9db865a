# shellcheck shell=sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The igb's four VFs, as the tests expect them.

make_vfs() { # folder of the PF
    pf=$1
    # libvirtd puts back a VF's MAC address only where the administrator had set one, and puts back the interface's own
    # if that is another: so they are set before a driver sees the VFs, and with the PF up, without which a VF's driver
    # does not learn its address, and libvirtd gives out no VF as an interface.
    ip link set "$(ls "$pf/net")" up
    echo 0 >"$pf/sriov_drivers_autoprobe"
    echo 4 >"$pf/sriov_numvfs"
    for vf in 0 1 2 3; do
        ip link set "$(ls "$pf/net")" vf $vf mac 52:54:00:6c:ff:0$vf
    done
    echo 1 >"$pf/sriov_drivers_autoprobe"
    for vf in "$pf"/virtfn*; do
        basename "$(readlink "$vf")" >/sys/bus/pci/drivers_probe
    done
    udevadm settle --timeout=600
}
