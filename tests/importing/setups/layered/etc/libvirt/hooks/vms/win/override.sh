# SPDX-License-Identifier: LGPL-2.1-or-later
SERVICES+=(jellyfin)
qemu_prepare_begin() { stop_services; pin on; umount /mnt/a /mnt/b; return 0; }
qemu_release_end() { mount /mnt/a; mount /mnt/b; pin off; start_services; }
qemu_started_begin() { ddcutil setvcp 60 0x0f --bus 4 & sleep 1; }
