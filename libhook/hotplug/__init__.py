# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plugs devices into and out of a guest that runs. The hook never imports this, because it may not call libvirt.

parts          questions about the journal entry of a guest that runs
handover       each step of a device's way to the guest and back, journalled and recorded once
halfplugged    ends what a killed process began
request        what ``libhook attach`` and ``detach`` are asked to do, and what they would do
plug           ``libhook attach``
unplug         ``libhook detach``
watch          ``libhook watch``
watching       the connection to libvirtd for ``watch``
hypervisor     libvirt's API for ``attach`` and ``detach``
interrupts     Ctrl-C and SIGTERM for ``attach`` and ``detach``
notify         messages to systemd for ``watch``
"""
