# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# Part of install.sh: where the hook is, and where it was. libvirt looks into one folder, which it was built for. So there
# is one hook. If --hook-dir names another folder, a file in PREFIX/lib/libhook remembers it.
# shellcheck disable=SC2154 # root, hooks, recorded, libvirts, lib, dry, target, other: install.sh's

is_ours() { grep -qs '^lib=.*# install.sh sets this' "$1"; }

is_foreign() { { [ -e "$root$1" ] || [ -L "$root$1" ]; } && ! is_ours "$root$1"; }

# Prints where our hook may be: in the folder that is asked for, and in the one of the installation before.
hook_files() {
    say "$hooks/qemu" && say "$hooks/qemu.d/libhook"
    [ "$recorded" = "$hooks" ] || { say "$recorded/qemu" && say "$recorded/qemu.d/libhook"; }
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
        die "there is no folder $hooks; if libvirt looks there, run: mkdir -p $hooks; else use --hook-dir $libvirts"
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

remove_if_other() { [ "$1" = "$root$target" ] || run rm -f -- "$1"; }

# Notes where the hook is, for the next install.sh and for libhook doctor; or that it is in libvirt's own folder.
remember_hooks() {
    if [ "$hooks" != "$libvirts" ]; then
        run note_hooks
    elif [ -e "$root$lib/hook-dir" ]; then
        run rm -f -- "$root$lib/hook-dir"
    fi
}

note_hooks() { say "$hooks" >"$root$lib/hook-dir"; }
