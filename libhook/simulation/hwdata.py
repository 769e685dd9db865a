# SPDX-License-Identifier: LGPL-2.1-or-later
"""The list of names that a simulated host has as /usr/share/hwdata/pci.ids: its usual devices, as hwdata calls them."""

PCI_IDS = """\
# Vendors, products and subsystems, as in the PCI ID database.
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t73bf  Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]
\t\t1da2 440f  NITRO+ Radeon RX 6800 XT
\tab28  Navi 21/23 HDMI/DP Audio Controller
1022  Advanced Micro Devices, Inc. [AMD]
\t1483  Starship/Matisse GPP Bridge
10de  NVIDIA Corporation
\t22ba  AD102 High Definition Audio Controller
\t2684  AD102 [GeForce RTX 4090]
144d  Samsung Electronics Co Ltd
\ta808  NVMe SSD Controller SM981/PM981/PM983
1b21  ASMedia Technology Inc.
\t1080  ASM1083/1085 PCIe to PCI Bridge
8086  Intel Corporation
\t10c9  82576 Gigabit Network Connection
\t10ca  82576 Virtual Function
\t10d3  82574L Gigabit Network Connection

C 03  Display controller
\t00  VGA compatible controller
"""
