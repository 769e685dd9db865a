#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
for i in 1 2 3 4 5; do
  echo 16384 > /proc/sys/vm/nr_hugepages
  if [ "$(cat /proc/sys/vm/nr_hugepages)" -eq 16384 ]; then break; fi
  echo 3 > /proc/sys/vm/drop_caches
  sleep 1
done
if [ "$(cat /proc/sys/vm/nr_hugepages)" -ne 16384 ]; then
  echo "not enough pages"
  exit 1
fi
