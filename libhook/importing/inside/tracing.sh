# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# Each bash in the sandbox reads this first: it tells strace the file and line of every command.
exec 199>>/.trace/lines
BASH_XTRACEFD=199
PS4=$'+\001${BASH_SOURCE[0]}\001${LINENO}\001'
command_not_found_handle() { exec /.libhook/standin "$@"; }
set -x
