# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# Part of install.sh: where the hook is, and where it was. libvirt looks into one folder, which it was built for. So there
# is one hook. If --hook-dir names another folder, a file in PREFIX/lib/libhook remembers it.
# shellcheck disable=SC2154 # root, prefix, libvirts, lib, dry: install.sh's
# shellcheck disable=SC3013 # -ef is in POSIX.1-2024, and was in dash, bash and busybox long before

is_ours() { grep -qs '^lib=.*# install.sh sets this' "$1"; }

is_foreign() { { [ -e "$root$1" ] || [ -L "$root$1" ]; } && ! is_ours "$root$1"; }

# Sets $hooks to the hook's folder, and $earlier to all others where a hook of ours may be. Folder $1 was asked for, or
# is ''. The first line that was noted is the hook's folder. The others are those that it was to move from.
recall_hooks() {
    hooks='' earlier='' has_note=no
    [ -z "$1" ] || recall "$1"
    while read -r name; do
        ! is_plain "$name" || { has_note=yes && recall "$name"; }
    done <<EOT
$(cat "$root${prefix:-/usr/local}/lib/libhook/hook-dir" 2>/dev/null)
EOT
    [ "$has_note" = yes ] || recall "$libvirts"
}

# A folder can have several names: there are links. Libvirt's own folder goes by libvirt's name.
recall() {
    known=$1
    [ ! "$root$1" -ef "$root$libvirts" ] || known=$libvirts
    if [ -z "$hooks" ]; then
        hooks=$known
    elif [ "$known" != "$hooks" ] && [ ! "$root$known" -ef "$root$hooks" ]; then
        earlier="$earlier $known"
    fi
}

# Prints where our hook may be.
hook_files() {
    for name in $hooks $earlier; do
        say "$name/qemu" && say "$name/qemu.d/libhook"
    done
}

# Runs a command for each of our hooks, with its file as the last argument.
for_each_of_ours() {
    for file in $(hook_files); do
        ! is_ours "$root$file" || "$@" "$root$file"
    done
}

# Whether the hook or the package is where the options say.
is_installed() { [ -d "$root$lib" ] || [ -n "$(for_each_of_ours say)" ]; }

# Refuses a folder that is not there, which is most likely misspelt. libvirt's own is made.
has_folder() {
    [ "$hooks" = "$libvirts" ] || [ -d "$hooks" ] ||
        die "there is no folder $hooks; use --hook-dir $libvirts, or, if libvirt looks there, run: mkdir -p $hooks"
}

# Chooses the hook's place before anything is changed. Somebody else's hook is never overwritten.
choose_hook() {
    target=$hooks/qemu other=$hooks/qemu.d/libhook
    ! is_foreign "$target" || target=$other other=''
    ! is_foreign "$target" || die "$root$target belongs to somebody else, too; rename it"
}

# Our hook may be in another place, too: somebody else's was here, or it was in another folder. It must not run twice.
install_hook() {
    folder "$(dirname -- "$target")"
    [ -n "$other" ] ||
        say "another hook is in $root$hooks/qemu: libhook goes into $root$target, and libvirtd runs it after that one"
    place "$target" "$hooks" hook_text
    for_each_of_ours remove_if_other
}

# A link from elsewhere to our hook is no other hook. In the same folder libvirtd would run it, too.
remove_if_other() {
    if [ "$1" = "$root$other" ] || [ ! "$1" -ef "$root$target" ]; then run rm -f -- "$1"; fi
}

# Notes folders $*, for the next install.sh and for libhook doctor, which reads the first. Libvirt's own folder alone need
# not be noted.
remember_hooks() {
    noted=$*
    if [ "$noted" != "$libvirts" ]; then
        place "$lib/hook-dir" "$lib" note_text 644
    elif [ -e "$root$lib/hook-dir" ]; then
        run rm -f -- "$root$lib/hook-dir"
    fi
}

note_text() { for name in $noted; do say "$name"; done; }
