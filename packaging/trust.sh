# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# Part of install.sh: what root imports, runs or obeys must be root's own, and so must every folder above it. A user who
# may write to a folder can replace what is in it. In a sticky folder such a user can still add what is not there yet.
# shellcheck disable=SC2154 # prefix, lib, hooks, config: install.sh's

# Refuses if anybody but root could change what is installed, and says what to do about all of it.
trusted() {
    theirs='' open='' elsewhere=''
    [ "$hooks" = "$libvirts" ] || elsewhere=$hooks
    # shellcheck disable=SC2046 # --prefix takes no blanks
    for place in "$lib/versions" "$lib/lock" "$lib/folders" "$lib/hook-dir" "$prefix/bin/libhook" \
        "$hooks/qemu" "$hooks/qemu.d/libhook" "$config" "${config%.toml}.d" $(files | cut -d ' ' -f 3); do
        case $place in "$hooks"/*) option=--hook-dir ;; *) option=--prefix ;; esac
        look_at "$place"
    done
    remedy="${theirs:+chown root:root$theirs}${theirs:+${open:+ && }}${open:+chmod go-w$open}"
    [ -z "$remedy" ] || die "users other than root could change what root runs; check the files, then run: $remedy"
}

# Looks at path $1, at all above it, and at where its links lead. Notes in $theirs what is not root's, and in $open what
# others may write to. Ends the script for a home or /tmp: they are meant to be so, and must not be changed.
look_at() {
    [ "$1" = / ] || look_at "$(dirname -- "$1")"
    if [ -L "$1" ]; then
        [ -e "$1" ] || die "$1 is a broken link; remove it"
        target=$(readlink -- "$1")
        case $target in
        /*) look_at "$target" ;;
        *) look_at "$(dirname -- "$1")/$target" ;;
        esac
        return
    fi
    [ -e "$1" ] || return 0
    case $(stat -c '%u:%A' -- "$1") in
    *w[tT]) die "everybody may put files into $1, so root must not run anything from there; choose another $option" ;;
    0:?????w* | 0:????????w*) open=$(with "$1" "$open") ;;
    0:*) ;;
    *:?????w* | *:????????w*) theirs=$(with "$1" "$theirs") open=$(with "$1" "$open") ;;
    *) theirs=$(with "$1" "$theirs") ;;
    esac
    case "$theirs $prefix/ $elsewhere/" in
    *" $1 "*"$1/"*) die "$1 does not belong to root, so root must not run anything from there; choose another $option" ;;
    esac
}

# Prints the list $2 with $1 in it.
with() {
    case "$2 " in
    *" $1 "*) say "$2" ;;
    *) say "$2 $1" ;;
    esac
}
