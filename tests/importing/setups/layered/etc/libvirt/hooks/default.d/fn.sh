# SPDX-License-Identifier: LGPL-2.1-or-later
stop_services() { local s; for s in "${SERVICES[@]}"; do systemctl is-active -q "$s" && { systemctl stop "$s"; echo "$s" >> "/run/stopped-${args[guest]}"; }; done; }
start_services() { while read -r s; do systemctl start "$s"; done < "/run/stopped-${args[guest]}"; rm -f "/run/stopped-${args[guest]}"; }
declare -a SERVICES=(smb nfs-server.service)
pin() { /usr/local/bin/pin.sh "$1"; }
