# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices that come to a guest that runs, and go. Not the hook's: it never imports this, and may not ask libvirt.

parts          what is asked of a guest's record while it runs
handover       each moment of a device's way there and back, journalled and recorded once
halfplugged    what nobody sees to any more
request        what ``libhook attach`` and ``detach`` are asked for, and what would come of it
plug           ``libhook attach``
unplug         ``libhook detach``
watch          ``libhook watch``
"""
