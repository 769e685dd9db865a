# shellcheck shell=sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Starting the lab's daemons without systemd, which under translation alone would take longer than all of them.

wait_until() { # seconds command…
    end=$(($(date +%s) + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 0.2
    done
}

start_udev() {
    # The device nodes of modules that are not loaded yet, as on every systemd host. Without /dev/vfio/vfio libvirtd
    # takes the host for one that cannot pass devices through at all.
    mkdir -p /run/tmpfiles.d
    kmod static-nodes --format=tmpfiles --output=/run/tmpfiles.d/static-nodes.conf
    systemd-tmpfiles --prefix=/dev --create --boot
    /usr/lib/systemd/systemd-udevd --daemon
    udevadm trigger --type=subsystems --action=add
    udevadm trigger --type=devices --action=add
    udevadm settle --timeout=600
}

configure_journal() {
    mkdir -p /run/log/journal
    printf '[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\nRateLimitIntervalSec=0\n' >/etc/systemd/journald.conf
}

start_journal() {
    # /dev/log is a link that systemd's socket unit would make.
    mkdir -p /run/systemd/journal
    configure_journal
    /usr/lib/systemd/systemd-journald </dev/null >/dev/null 2>&1 &
    ln -sf /run/systemd/journal/dev-log /dev/log
    wait_until 150 test -S /run/systemd/journal/socket
}

start_auditd() {
    mkdir -p /var/log/audit
    auditd && wait_until 150 test -s /var/log/audit/audit.log
}

configure_libvirtd() { # lines of qemu.conf
    mkdir -p /var/log/libvirt
    printf '%s\n' "$@" >>/etc/libvirt/qemu.conf
    printf 'log_outputs = "2:file:/var/log/libvirt/libvirtd.log"\n' >>/etc/libvirt/libvirtd.conf
}

# The filter: libvirtd asks each QEMU for its CPU's properties one by one. That is 460 questions, and more than 2 s under
# translation. Without this capability it asks for all of them at once.
start_libvirtd() {
    configure_libvirtd 'user = "root"' 'group = "root"' 'security_driver = "none"' 'cgroup_controllers = []' \
        'namespaces = []' 'capability_filters = [ "cpu-unavailable-features" ]'
    virtlogd -d && libvirtd -d && wait_until 300 virsh -q uri
}

# shellcheck source=SCRIPTDIR/under-systemd.sh
[ ! -d /run/systemd/system ] || . /src/tests/lab/guest/under-systemd.sh
