# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# Part of install.sh: the files beside the package, the command and the hook. They are completions, services, manual
# pages and documents.
# shellcheck disable=SC2154 # python, here, root, dry, prefix, units: install.sh's

# Makes folder $1, and notes each folder that was not there, so that --uninstall can remove it.
folder() {
    [ "$1" != / ] && [ ! -d "$root$1" ] || return 0
    case $made in *" $1 "*) return ;; esac
    folder "$(dirname -- "$1")"
    run mkdir -- "$root$1"
    made="$made $1 "
}

# Writes what command $3 prints to file $1, whole or not at all, executable (or with mode $4). The half-written file is
# in folder $2, never in qemu.d: there libvirt runs every executable file.
place() {
    if [ "$dry" = yes ]; then
        say "would write: $root$1"
        return
    fi
    half=$root$2/.libhook.new
    "$3" >"$half"
    chmod "${4:-755}" "$half"
    mv -f -- "$half" "$root$1"
}

# Prints the folder for zsh's completions. Each zsh looks into /usr/local/share/zsh/site-functions, and into that of its own
# prefix (Debian's bug 934926). But Debian's has another for packages (README.Debian of zsh-common).
zsh_folder() {
    # shellcheck disable=SC2154 # os_release: distribution.sh's
    if [ "$prefix" = /usr ] && grep -Eqs '^ID(_LIKE)?=.*(debian|ubuntu)' "$os_release"; then
        say "$prefix/share/zsh/vendor-completions"
    else
        say "$prefix/share/zsh/site-functions"
    fi
}

# Prints the folder for fish's completions. Without XDG_DATA_DIRS, as root mostly is, fish looks into that of its own prefix
# (fish's share/config.fish), and always into /etc.
fish_folder() {
    if [ "$prefix" = /usr ]; then
        say "$prefix/share/fish/vendor_completions.d"
    else
        say /etc/fish/completions
    fi
}

# Removes what is no more where earlier versions had it.
remove_moved() {
    old=$prefix/share/fish/vendor_completions.d
    [ "$(fish_folder)" = "$old" ] || [ ! -e "$root$old/libhook.fish" ] || run rm -f -- "$root$old/libhook.fish"
}

# Prints a line for each file: how it is made, of what, and where it goes.
files() {
    say "completion bash $prefix/share/bash-completion/completions/libhook"
    say "completion zsh $(zsh_folder)/_libhook"
    say "completion fish $(fish_folder)/libhook.fish"
    for unit in watch recover; do
        say "unit packaging/libhook-$unit.service $units/libhook-$unit.service"
    done
    for page in libhook.8 libhook.toml.5 libhook-handlers.7; do
        say "copy packaging/man/$page $prefix/share/man/man${page##*.}/$page"
    done
    (cd -- "$here" && for page in LICENSE *.md docs/*.md docs/pictures/*; do
        [ ! -f "$page" ] || say "copy $page $documents/$page"
    done)
    say "copy packaging/libhook.toml.sample $documents/libhook.toml.sample"
}

# Prints the file that $how and $of say. The shells' code is argcomplete's: it runs the command at each TAB.
file_text() {
    case $how in
    copy) cat -- "$here/$of" ;;
    unit) sed "s|/usr/local/bin|$prefix/bin|" "$here/$of" ;;
    completion)
        "$python" -I -c 'if True:
            import sys, argcomplete
            shell, command = sys.argv[1:]
            print(argcomplete.shellcode(["libhook"], shell=shell, complete_arguments=["-o", "nospace"],
                                        argcomplete_script=command))' "$of" "$prefix/bin/libhook"
        ;;
    esac
}

install_files() {
    completes=yes
    # argcomplete knows zsh since 3.0, and older ones write another shell's code for it.
    "$python" -I -c 'from importlib.metadata import version; import argcomplete, sys
sys.exit(int(version("argcomplete").split(".")[0]) < 3)' 2>/dev/null || completes=no
    [ "$completes" = yes ] || warn "no argcomplete 3 for $python: the TAB key will not complete libhook's words"
    remove_moved
    [ ! -d "$root$documents" ] || run find "$root$documents" -type f -exec rm -f -- {} + # pages of the version before
    while read -r how of path; do
        [ "$how $completes" != "completion no" ] || continue
        folder "${path%/*}"
        place "$path" "${path%/*}" file_text 644
    done <<EOT
$(files)
EOT
}

remove_files() {
    remove_moved
    files | while read -r _ _ path; do
        case $path in
        "$documents"/*) ;;
        *) run rm -f -- "$root$path" ;;
        esac
    done
    run rm -rf -- "$root$documents"
}
