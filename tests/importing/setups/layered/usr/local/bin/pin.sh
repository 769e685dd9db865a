#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
case $1 in
on) c=0-3;; off) c=0-15;;
esac
for s in system user; do systemctl set-property --runtime $s.slice AllowedCPUs=$c; done
