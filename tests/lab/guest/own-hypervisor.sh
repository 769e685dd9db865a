#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What stands for libvirtd on the host of own-host.sh: it calls the hook when it begins and when it is stopped. Its first
# guest dies with a soft-reboot; its second ends, as guests do, while the host shuts down. $1 is a folder, which has the
# guest's XML, and gets what was seen.
folder=$1 what=$2
era=$(systemctl show --value --property=SoftRebootsCount)
era=${era:-1} # systemd 252 cannot soft-reboot

note() {
    desk=$(systemctl show --value --property=ActiveState desk.service)
    extra=$(systemctl show --value --property=ActiveState extra.service)
    up=$(systemctl show --value --property=ActiveState up.service)
    driver=$(basename "$(readlink "/sys/bus/pci/devices/$(cat "$folder/address")/driver")")
    kept=$(find /run/libhook/domains /run/libhook/shared -type f 2>/dev/null | wc -l)
    echo "$era $*: desk=$desk extra=$extra up=$up nic=$driver kept=$kept" >>"$folder/notes"
}

hook() {
    /etc/libvirt/hooks/qemu own "$1" "$2" "$3" <"$folder/xml" 2>>"$folder/said"
    note "$1 answered $?"
}

case $what$era in
begin0)
    systemctl start desk.service extra.service
    hook prepare begin -
    systemctl soft-reboot --no-block
    ;;
begin1)
    note "began again"
    hook prepare begin -
    systemctl poweroff --no-block
    ;;
end1)
    note "is $(systemctl show --value --property=SystemState)"
    hook release end shutdown
    systemctl start --no-block desk.service 2>>"$folder/refused"
    while pgrep -f 'launched\(\)' >/dev/null; do sleep 0.2; done # they write the log
    journalctl --sync
    journalctl -t libhook -o cat >"$folder/log"
    ;;
esac
[ "$what" = end ] || exec sleep infinity
