# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# Part of install.sh: each version has a folder of its own, PREFIX/lib/libhook/versions/ID. The hook and the command
# name that folder, so one rename of each switches. A process that runs from a version has it locked
# (libhook/children/version.py). The version before stays. A later installation removes it, if nobody has it locked.
# shellcheck disable=SC2154 # python, here, root, dry, prefix, lib, hooks, compile: install.sh's

# Prints the launcher with the folder of its version in it.
hook_text() { sed "s|^lib=.*|lib=$version # install.sh sets this|" "$here/hooks/qemu"; }

command_text() {
    cat <<EOF
#!$python -I
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The libhook command; install.sh wrote it."""

import os
import sys

lib = "$version"
sys.path.insert(0, lib)
try:
    from libhook.children.version import hold

    there = hold()
except (ImportError, OSError):
    there = os.path.isdir(lib)
    if there:
        raise
if not there and len(again := os.environ.get("LIBHOOK_AGAIN", "")) < 4:
    # An upgrade removed this version before it could be locked, and put another command in our place.
    os.execve(sys.argv[0], sys.argv, {**os.environ, "LIBHOOK_AGAIN": f"{again}+"})

from libhook.cli import main

sys.exit(main())
EOF
}

versions() { "$python" -I "$here/packaging/versions.py" "$@"; }

# Prints a name for what is in $1. It follows from the content, and from the interpreter, whose bytecode goes with it.
identity() {
    number=$(sed -n 's/^__version__ = "\([0-9a-z.]*\)"$/\1/p' "$1/libhook/__init__.py")
    sum=$(cd -- "$1" && {
        find libhook hooks -name __pycache__ -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
        "$python" -V 2>/dev/null || true
    } | sha256sum | cut -c 1-12)
    say "${number:-0}-$sum"
}

# Prints the versions that the installed hook and command name.
named() {
    for file in $(hook_files) "$prefix/bin/libhook"; do
        sed -n -e 's|^lib=\(/[^ ]*\) # install.sh sets this$|\1|p' -e 's|^lib = "\(.*\)"$|\1|p' "$root$file" 2>/dev/null || true
    done
}

# Makes in $new what $version will be. All files get the same time, so that the same bytecode comes out each time.
stage() {
    run rm -rf -- "$new"
    run mkdir -- "$new" "$new/hooks" # laid out as in a clone, so that the demo finds the launcher
    run cp -R -- "$here/libhook" "$new"
    run find "$new" -name __pycache__ -prune -exec rm -rf {} +
    [ "$dry" = yes ] || hook_text >"$new/hooks/qemu"
    run find "$new" -type d -exec chmod 755 {} +
    run find "$new" -type f -exec chmod 644 {} + -exec touch -d '2000-01-01 00:00 UTC' {} +
    run chmod 755 "$new/hooks/qemu"
    # The lock is never open to others, not for a moment: a process that once opened it can keep it locked for ever.
    [ "$dry" = yes ] || (umask 077 && : >"$new/lock" && touch -d '2000-01-01 00:00 UTC' "$new/lock")
    [ -n "$root" ] || run chown -R 0:0 -- "$new"
    [ "$compile" = yes ] || return 0
    run "$python" -I -m compileall -q --invalidation-mode timestamp -s "$new" -p "$version" "$new/libhook"
    run "$python" -I -B "$new/libhook/bundle.py"
}

# Lets no other install.sh work at the same time. The lock's file is root's alone, because others could keep it locked.
alone() {
    [ "$dry" = no ] || return 0
    (umask 077 && : >>"$root$lib/lock")
    exec 9>>"$root$lib/lock"
    versions alone || die "another install.sh runs; try again when it has ended"
}

# Installs this version. A version in place is never changed, since a process may run from it. If it is not whole,
# another copy goes beside it.
install_version() {
    folder "$lib/versions"
    alone
    new=$root$lib/versions/.new id=$(identity "$here") copy=''
    while :; do
        version=$lib/versions/$id$copy
        stage
        if [ "$dry" = yes ] || [ ! -e "$root$version" ] || versions same "$new" "$root$version"; then break; fi
        copy=.$((${copy#.} + 1))
    done
    before=$(named)
    if [ -e "$root$version" ]; then
        run rm -rf -- "$new"
    else
        run mv -- "$new" "$root$version"
    fi
    keep=$(for name in $before; do say "${name##*/}"; done)
    # shellcheck disable=SC2086 # the names of versions
    run versions clean "$root$lib/versions" "${version##*/}" $keep
    # The first releases had no version folders. A process that runs from there has no lock, and had time until now.
    if [ -e "$root$lib/libhook" ] && ! say "$before" | grep -qxF -- "$lib"; then
        run rm -rf -- "$root$lib/libhook" "$root$lib/hooks"
    fi
}
