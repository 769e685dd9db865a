#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Becomes process 1 of a host of its own: systemd in new namespaces, with its own /run and control groups. It shuts down
# as any host, and the lab goes on. /sys, the devices and the file systems are the lab's. $1 has its units.
set -e
mount -t proc proc /proc
mount -t tmpfs cgroup /sys/fs/cgroup # Linux 6.1 mounts nothing over itself
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs -o mode=755 run /run
mount --bind /dev/null /dev/console
mkdir -p /run/systemd
cp -r "$1" /run/systemd/system
exec env -i container=lab PATH="$PATH" LC_ALL=C.UTF-8 /usr/lib/systemd/systemd
