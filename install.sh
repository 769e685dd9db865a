#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Puts libhook where libvirtd finds it. With --dry-run every change is only printed: it goes through run, or looks at
# $dry.
set -eu
umask 022

# The distribution's own interpreter, never a version manager's: lxml and the audit bindings are installed for it.
python=/usr/bin/python3
selinuxfs=/sys/fs/selinux
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
prefix='' root='' hooks='' mode=install dry=no compile=yes made='' half='' silenced='' stopped=''
patience=40 # seconds that --uninstall waits for whoever is at work; a start may take 30
trap undo EXIT
trap 'exit 1' HUP INT TERM

usage() {
    cat <<'EOF'
usage: install.sh [--demo | --uninstall | --purge] [--prefix DIR]
                  [--destdir DIR] [--hook-dir DIR] [--no-compile] [--dry-run]

Installs the distribution's packages for lxml, structlog, audit, systemd,
libvirt, pyudev, hwdata, rich, jinja2 and argcomplete where they are missing;
the package to PREFIX/lib/libhook; the command to PREFIX/bin/libhook; below
PREFIX/share completions for bash, zsh and fish (or in /etc, where fish looks
for it), manual pages, and documents with a sample of the settings; the
services libhook-watch and libhook-recover (not started); and
the hook to /etc/libvirt/hooks/qemu (or qemu.d/libhook beside it, where another
hook stands there). Needs root.

  --demo          install only the packages, and play a guest's life on a
                  simulated host, from this folder
  --uninstall     remove all of it but the packages and the configuration;
                  refused while a guest holds a device
  --purge         the same, and remove /etc/libhook and the notes of guests'
                  devices in /var/lib/libhook
  --prefix DIR    instead of /usr/local
  --destdir DIR   put everything below DIR, for packagers: no packages, no
                  signal to libvirtd, no root needed
  --hook-dir DIR  instead of /etc/libvirt/hooks, for a libvirt that looks there;
                  it is remembered, and a hook that is elsewhere moves there
  --no-compile    leave out bytecode and the bundle of modules, for packagers
                  who compile by themselves: the hook runs, but takes longer
  --dry-run       print what would be done, do nothing
EOF
}

say() { printf '%s\n' "$*"; }
warn() { printf 'install.sh: %s\n' "$*" >&2; }
die() { warn "$*"; exit 1; }
misused() { warn "$*; see install.sh --help"; exit 2; }

# Whether this is a folder whose name need not be quoted in the files that name it.
is_plain() {
    case $1 in
    *[!A-Za-z0-9/._+-]* | [!/]* | '') return 1 ;;
    esac
}

absolute() { is_plain "$2" || misused "$1 needs an absolute path of letters, digits and /._+-"; }

# Prints folder $1 without slashes at its end; nothing for /.
folder_of() {
    case $1 in
    */) folder_of "${1%/}" ;;
    *) say "$1" ;;
    esac
}

run() {
    if [ "$dry" = yes ]; then
        say "would run: $*"
    else
        "$@"
    fi
}

needs_root() {
    [ "$dry" = yes ] || [ -n "$root" ] || [ "$(id -u)" -eq 0 ] || die "$1 needs root; run it with sudo"
}

# Undoes what an uninstallation had begun that was refused or stopped half way. Removes a half-written file.
undo() {
    [ -z "$half" ] || rm -f -- "$half"
    if [ -n "$silenced" ]; then
        [ -d "$root$lib/versions" ] || [ ! -d "$root$lib/versions.gone" ] ||
            mv -- "$root$lib/versions.gone" "$root$lib/versions"
        for_each_of_ours chmod 755
    fi
    [ -z "$stopped" ] || systemctl start libhook-watch.service
}

# shellcheck source=packaging/distribution.sh
. "$here/packaging/distribution.sh" # install_packages

# shellcheck source=packaging/trust.sh
. "$here/packaging/trust.sh" # trusted
# shellcheck source=packaging/versions.sh
. "$here/packaging/versions.sh" # install_version, command_text, hook_text

# --- files ---

# shellcheck source=packaging/files.sh
. "$here/packaging/files.sh" # files, folder, place, install_files, remove_files
# shellcheck source=packaging/hook.sh
. "$here/packaging/hook.sh" # recall_hooks, choose_hook, install_hook, remember_hooks, for_each_of_ours, is_installed

# --- the daemon and the host ---

has_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# Starts no service: whether hot-plug is watched is the administrator's choice, and the watch starts libhook-recover.
tell_systemd() {
    has_systemd || return 0
    run systemctl daemon-reload
    run systemctl try-restart libhook-watch.service
}

# SIGHUP is enough: libvirtd then sees the hook.
tell_libvirtd() {
    told=no
    for daemon in libvirtd virtqemud; do
        if [ -d /run/systemd/system ] && systemctl --quiet is-active "$daemon.service"; then
            run systemctl reload "$daemon.service" && told=yes
        elif pid=$(cat "/run/$daemon.pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$daemon" ]; then
            run kill -HUP "$pid" && told=yes
        fi
    done
    [ "$told" = yes ] || say "libvirtd does not run now; it finds the hook when it starts"
}

# If SELinux does not let libvirt's daemon execute the hook, every guest that runs ends when the daemon next starts. So
# the doctor's code asks the kernel about the file that the hook is first written to.
ask_selinux() {
    [ -e "$selinuxfs/enforce" ] && [ -x "$python" ] || return 0
    code='import sys; sys.path.insert(0, sys.argv.pop(1)); from libhook.cli import ask_selinux; ask_selinux()'
    status=0
    said=$(LIBHOOK_ROOT='' "$python" -I -B -c "$code" "$here" "$hooks/.libhook.new" 2>&1) || status=$?
    [ -z "$said" ] || say "$said"
    [ "$status" -eq 0 ] || die "the hook is not installed: follow the advice above, then run this again"
}

# --- what to do ---

install() {
    needs_root "installing"
    [ "${installed:-$prefix}" = "$prefix" ] ||
        die "it is installed below $installed already; use --prefix $installed, or uninstall that first"
    for part in libhook/cli.py hooks/qemu; do
        [ -f "$here/$part" ] || die "$here/$part is missing; run install.sh from a whole clone"
    done
    [ "$(grep -c '^lib=' "$here/hooks/qemu")" -eq 1 ] || die "$here/hooks/qemu does not have exactly one lib= line; get a whole clone"
    choose_hook
    [ -n "$root" ] || has_folder
    [ -n "$root" ] || trusted
    # shellcheck disable=SC2086 # names: no blanks, no stars
    [ -n "$root" ] || install_packages $for_commands
    [ -n "$root" ] || ask_selinux
    [ -z "$root" ] || run mkdir -p -- "$root"
    install_version
    folder "$prefix/bin"
    place "$prefix/bin/libhook" "$prefix/bin" command_text
    install_files
    tell_systemd
    # Both folders are noted until the hook has moved, since this may be stopped at any moment.
    # shellcheck disable=SC2086 # folders without blanks
    remember_hooks "$hooks" $earlier
    install_hook
    remember_hooks "$hooks"
    # shellcheck disable=SC2086 # --prefix takes no blanks
    [ "$dry" = yes ] || [ -z "$made" ] || printf '%s\n' $made >>"$root$lib/folders"
    [ -n "$root" ] || tell_libvirtd
    [ "$dry" = yes ] || say "installed: package $root$version, command $root$prefix/bin/libhook, hook $root$target"
    [ "$dry" = yes ] || ! has_systemd || is_watched ||
        say "to record what others plug in and out, too: systemctl enable --now libhook-watch"
}

is_watched() {
    systemctl --quiet is-enabled libhook-watch.service && systemctl --quiet is-active libhook-watch.service
}

purge() {
    is_installed || die "no libhook is below $root$prefix: name its folders with --prefix and --hook-dir, as at the" \
        "installation$(leftovers)"
    uninstall
    run rm -rf -- "$root${config%/*}" "$root$notes"
}

# Prints how to remove what is there of settings and notes without an installation.
leftovers() {
    left=''
    for kept in "$root${config%/*}" "$root$notes"; do
        [ ! -e "$kept" ] || left="$left $kept"
    done
    if [ -n "$left" ] && is_plain "$root/"; then
        say "; if it is nowhere, run: rm -r$left"
    elif [ -n "$left" ]; then
        say "; if it is nowhere, remove by hand:$left" # --destdir takes any name
    fi
}

uninstall() {
    needs_root "uninstalling"
    is_installed || { say "no libhook is below $prefix, nor a hook of it in $hooks: nothing was removed" && return; }
    [ ! -d "$root$lib" ] || alone
    reason=$(versions held "$root/run/libhook") || die "$reason"
    # First make sure that no new call begins: libvirtd passes over a hook that is not executable. A shell that has
    # begun can read on.
    [ "$dry" = yes ] || silenced=yes
    for_each_of_ours run chmod 644
    if has_systemd && [ -e "$units/libhook-watch.service" ]; then
        [ "$dry" = yes ] || ! systemctl --quiet is-active libhook-watch.service || stopped=yes
        run systemctl stop libhook-watch.service || true
    fi
    if [ "$dry" = no ]; then
        reason=$(versions retire "$root$lib/versions" "$root/run/libhook" "$patience") || die "$reason"
    fi
    for_each_of_ours run rm -f --
    silenced='' stopped=''
    if has_systemd && [ -e "$units/libhook-watch.service" ]; then
        run systemctl disable --quiet libhook-watch.service || true # it may never have been enabled
        run systemctl disable --quiet libhook-recover.service || true
    fi
    made=$(sort -r "$root$lib/folders" 2>/dev/null) || made=''
    remove_files
    run rm -f -- "$root$prefix/bin/libhook" "$root$lib/folders" "$root$lib/hook-dir"
    ! has_systemd || run systemctl daemon-reload
    run rm -rf -- "$root$lib/versions" "$root$lib/versions.gone" "$root$lib/lock" "$root$lib/libhook" "$root$lib/hooks"
    run rm -rf -- "$root/run/libhook"
    say "$made" | while IFS= read -r name; do
        [ -z "$name" ] || [ ! -d "$root$name" ] || run rmdir -- "$root$name" 2>/dev/null || true # in use by others
    done
    for kept in "$root$config" "$root${config%.toml}.d"; do
        [ "$mode" = purge ] || [ ! -e "$kept" ] || say "kept, because you wrote it: $kept"
    done
    [ "$mode" = purge ] || [ ! -e "$root$notes" ] || say "kept, what guests' devices were: $root$notes (--purge removes it)"
    [ "$dry" = yes ] || say "libhook is uninstalled"
}

demo() {
    install_packages
    cd -- "$here"
    run exec "$python" -E -s -m libhook demo
}

while [ $# -gt 0 ]; do
    case $1 in
    --prefix | --destdir | --hook-dir)
        [ $# -ge 2 ] || misused "$1 needs a folder"
        option=$1 value=$2
        shift
        ;;
    *=*) option=${1%%=*} value=${1#*=} ;;
    *) option=$1 value='' ;;
    esac
    case $option in
    --prefix)
        prefix=$(folder_of "$value")
        [ -n "$prefix" ] || misused "--prefix needs a folder other than /"
        ;;
    --hook-dir)
        hooks=$(folder_of "$value")
        absolute "$option" "$hooks"
        ;;
    --destdir)
        root=$(folder_of "$value")
        [ -n "$root" ] || misused "--destdir needs a folder other than /"
        case $root in /*) ;; *) root=$PWD/$root ;; esac
        ;;
    --demo | --uninstall | --purge) mode=${option#--} ;;
    --dry-run) dry=yes ;;
    --no-compile) compile=no ;;
    -h | --help) usage && exit 0 ;;
    *) misused "unknown option $1" ;;
    esac
    shift
done
libvirts=/etc/libvirt/hooks
asked=$hooks
recall_hooks "$asked"
config=/etc/libhook/config.toml
notes=/var/lib/libhook
# If --prefix does not say where the rest is, the installed hook does.
installed=$(for file in $(hook_files); do
    sed -n 's|^lib=\(/[A-Za-z0-9/._+-]*\)/lib/libhook\(/versions/[^ ]*\)\{0,1\} #.*|\1|p' "$root$file" 2>/dev/null || true
done | head -n 1)
prefix=${prefix:-${installed:-/usr/local}}
absolute --prefix "$prefix"
recall_hooks "$asked" # again: only now the prefix is known
lib=$prefix/lib/libhook
documents=$prefix/share/doc/libhook
units=/etc/systemd/system # systemd looks below no other prefix than these two
case $prefix in /usr | /usr/local) units=$prefix/lib/systemd/system ;; esac
"$mode"
