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
        look_at "$place" ''
    done
    remedy="${theirs:+chown root:root$theirs}${theirs:+${open:+ && }}${open:+chmod go-w$open}"
    [ -z "$remedy" ] || die "users other than root could change what root runs; check the files, then run: $remedy"
}

# Looks at path $1, at all above it, and at where its links lead. $2 is the link that leads here, or ''. Notes in $theirs
# what is not root's, and in $open what others may write to. Ends the script for a home or /tmp: they are meant to be so,
# and must not be changed. So it does where a link leads to what others could change: whoever made the link chose that.
# Leaves in $link the last link on the way to $1.
look_at() {
    # A link's target is the only name here that somebody else may have chosen. It goes into no command.
    is_plain "$1" || die "the link $2 leads to '$(printf %s "$1" | LC_ALL=C tr -c '[:alnum:]/._+-' '?')'," \
        "which is not of letters, digits and /._+- alone; remove the link $2"
    if [ "$1" = / ]; then link=$2; else look_at "$(dirname -- "$1")" "$2"; fi
    if [ -L "$1" ]; then
        [ -e "$1" ] || die "$1 is a broken link; remove it"
        leads=$(readlink -n -- "$1" && say .) # with the point $( ) keeps a line's end that is part of the name
        case $leads in
        /*) look_at "${leads%.}" "$1" ;;
        *) look_at "$(dirname -- "$1")/${leads%.}" "$1" ;;
        esac
        return
    fi
    [ -e "$1" ] || return 0
    whose=$(stat -c '%u:%A' -- "$1")
    case "$whose $theirs $open " in
    0:?????[!w]??[!w]* | *" $1 "*) return ;;
    0:*) leading=$2 ;; # what is below the link's target has a name here, and to take others' right to write harms nobody
    *) leading=$link ;;
    esac
    [ -z "$leading" ] || die "the link $leading leads to what users other than root could change, $1; remove the link"
    case $whose in
    *w[tT]) die "everybody may put files into $1, so root must not run anything from there; choose another $option" ;;
    0:*) ;;
    *)
        case "$prefix/ $elsewhere/" in
        "$1"/* | *" $1"/*) die "$1 does not belong to root, so root must not run anything from there; choose another $option" ;;
        esac
        theirs="$theirs $1"
        ;;
    esac
    case $whose in *:?????w* | *:????????w*) open="$open $1" ;; esac
}
