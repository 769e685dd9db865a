# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# Part of install.sh: which distribution this is, and what its packages are called. Debian's names were tried. The
# others are from the distributions' package lists (2026). Fedora has had no structlog since 36, and openSUSE Leap 16
# has none; libhook logs without it.
# shellcheck disable=SC2034,SC2154 # python, dry: install.sh's, which uses for_commands

os_release=/etc/os-release
by_hand="install lxml, structlog, the audit bindings and python-systemd for $python by hand, and run it again"

check_python_version() {
    "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$python is $("$python" -V 2>&1), libhook needs 3.11 or later; use a newer release of the distribution"
}

# What only some commands need: attach, detach and watch; names of devices; output for people; the page of history; completion.
for_commands='libvirt hwdata rich jinja2 argcomplete'

# Prints the modules that cannot be imported. $@ names more modules to try, which only some commands need. PyPI has
# another project called audit, so a member of each module is looked for. hwdata is no module, but lists in files.
missing_modules() {
    "$python" -I -c '
import importlib
import os
import sys
members = {"libvirt": "open", "rich": "print", "jinja2": "Environment", "argcomplete": "shellcode"}
wanted = sys.argv[1:]
for module, member in (("lxml.etree", "XMLParser"), ("structlog", "get_logger"),
                       ("audit", "audit_log_user_message"), ("systemd.journal", "send"),
                       *((name, members[name]) for name in wanted if name in members)):
    try:
        getattr(importlib.import_module(module), member)
    except (ImportError, AttributeError):
        print(module.partition(".")[0])
if "hwdata" in wanted and not any(map(os.path.exists, ("/usr/share/hwdata/pci.ids", "/usr/share/misc/pci.ids"))):
    print("hwdata")' "$@"
}

# Prints the family of the distribution, which tells the package manager and the names: by ID first, then by ID_LIKE.
distribution() {
    [ -r "$os_release" ] || die "cannot read $os_release, so the distribution is unknown; $by_hand"
    # shellcheck source=/dev/null
    for id in $(. "$os_release" && printf '%s %s' "${ID:-}" "${ID_LIKE:-}"); do
        case $id in
        debian | ubuntu) say debian && return ;;
        fedora | rhel | centos) say fedora && return ;;
        arch) say arch && return ;;
        suse | opensuse*) say suse && return ;;
        esac
    done
    die "the distribution in $os_release is not Debian, Fedora, Arch, openSUSE or one of their relatives; $by_hand"
}

# Prints the package of module $2 in family $1; "python" is the interpreter.
package() {
    case $1:$2 in
    arch:python) say python ;;
    *:python) say python3 ;;
    *:hwdata) say hwdata ;;
    arch:libvirt) say libvirt-python ;;
    arch:*) say "python-$2" ;;
    suse:libvirt) say python3-libvirt-python ;;
    suse:audit) say python3-audit ;; # the one that is not built for each interpreter
    suse:*)
        xy=$("$python" -I -c 'import sys; print("%d%d" % sys.version_info[:2])' 2>/dev/null) || xy=3
        say "python$xy-$2"
        ;;
    *) say "python3-$2" ;;
    esac
}

# Installs packages. What the package manager prints is shown only when it fails.
package_manager() {
    family=$1
    shift
    case $family in
    debian) run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" ;;
    fedora) run dnf install -y -q "$@" ;;
    arch) run pacman -S --noconfirm --needed "$@" ;;
    suse) run zypper --non-interactive --quiet install --no-recommends "$@" ;;
    esac >"$half" 2>&1 || { cat "$half" >&2 && return 1; }
    [ "$dry" = no ] || cat "$half"
}

# Installs all packages at once, which is fastest. If that fails, installs each by itself: a name that a release does
# not have must not keep the others away.
install_each() {
    family=$1
    shift
    package_manager "$family" "$@" && return
    for name; do
        package_manager "$family" "$name" || true # what is still missing is told by name afterwards
    done
}

# Installs the packages that are missing. $@ names modules that only some commands need.
install_packages() {
    [ ! -x "$python" ] || check_python_version
    if [ -x "$python" ]; then wanted=$(missing_modules "$@"); else wanted="python lxml structlog audit systemd $*"; fi
    [ -n "$wanted" ] || return 0
    needs_root "installing packages ($(say "$wanted" | tr '\n' ' ')missing)"
    needed=no
    for module in $wanted; do
        case " $* " in *" $module "*) ;; *) needed=yes ;; esac
    done
    if [ "$needed" = no ]; then
        family=$(distribution) || return 0 # it has said why; all but those commands works
    else
        family=$(distribution)
    fi
    names=''
    for module in $wanted; do
        names="$names $(package "$family" "$module")"
    done
    [ "$dry" = yes ] || say "installing packages:$names"
    half=$(mktemp)
    [ "$family" != debian ] || run apt-get update -qq || warn "apt-get update failed; going on with the old lists"
    # shellcheck disable=SC2086 # names of packages: no blanks, no stars
    install_each "$family" $names
    rm -f -- "$half"
    [ "$dry" = no ] || return 0
    check_installed "$@"
}

check_installed() {
    [ -x "$python" ] || die "$python is missing, and the package manager did not bring it; install it by hand"
    check_python_version
    left=''
    for module in $(missing_modules "$@"); do
        case $module in
        structlog) warn "no structlog for $python: libhook writes its log without it" ;;
        systemd) warn "no python-systemd for $python: libhook logs to syslog instead of the journal" ;;
        libvirt) warn "no libvirt bindings for $python: libhook attach, detach and watch do not work without them" ;;
        hwdata) warn "no hwdata: devices may be shown by their ids alone" ;;
        rich) warn "no rich for $python: libhook prints plain text" ;;
        argcomplete) ;; # install_files says it
        jinja2) warn "no jinja2 for $python: libhook history --html does not work without it" ;;
        *) left="$left $module" ;;
        esac
    done
    [ -z "$left" ] || die "$python still cannot import$left: installing failed as shown above, or no enabled" \
        "repository has it (RHEL and its relatives: try EPEL; Ubuntu: universe); $by_hand"
}
