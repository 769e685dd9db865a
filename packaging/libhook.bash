# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# Tab completion for the libhook command, in bash. install.sh puts it where bash looks for it.

# A line for each command, `libhook` itself first: what its arguments are, and its options; after = comes a value.
# Made from the command line's parser: pytest tests/test_completion.py --regenerate
_libhook_table='
libhook: accept attach config demo detach devices doctor handlers history hook import inspect plan recover status watch --help --version -h
accept: GUEST --dry-run --help -h
attach: DOMAIN DEVICE-XML --config --connect=URI --dry-run --help --live --timeout=SECONDS -c=URI -h
config: GUEST --help --json -h
demo: --help -h
detach: DOMAIN DEVICE-XML --config --connect=URI --dry-run --help --live --timeout=SECONDS -c=URI -h
devices: WORD --help --json --xml -h
doctor: --help --json -h
handlers: enable|disable NAME --help --json -h
history: --cursor=FILE --device=DEVICE --end=TIME --follow --help --html=FILE --input=FILE --json --node=NAME --result=success|failed --start=TIME --uuid=UUID --vm=NAME -d=DEVICE -h -if=FILE -n=NAME -te=TIME -ts=TIME -uu=UUID -vm=NAME
hook:
import: PATH --guest=NAME --help --json --name=NAME --write -h
inspect: GUEST|XML --help --json -h
plan: GUEST|XML --event=prepare|start|started|release|reconnect --help --json -h
recover: --dry-run --help -h
status: --help --json -h
watch: --connect=URI --help -c=URI -h
'

_libhook() {
    local IFS=$' \t\n' current=${COMP_WORDS[COMP_CWORD]} command=libhook row word at given=0 before='' wants=''
    local -a words=() arguments=() options=()
    local -A values=()
    COMPREPLY=()
    if ((COMP_CWORD > 1)); then command=${COMP_WORDS[1]}; fi
    while read -r row; do
        if [[ ${row%%:*} == "$command" ]]; then read -ra words <<<"${row#*:}"; fi
    done <<<"$_libhook_table"
    for word in "${words[@]}"; do
        case $word in
        -*=*) values[${word%%=*}]=${word#*=} options+=("${word%%=*}") ;;
        -*) options+=("$word") ;;
        *) arguments+=("$word") ;;
        esac
    done
    # readline breaks words at = and : too.
    for ((at = 2; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        if [[ $word == [=:] ]]; then
            before=$word
            continue
        elif [[ -n ${values[$word]+set} ]]; then
            wants=$word
        elif [[ -n $wants ]]; then
            wants=''
        elif [[ $before != : && ($word != -* || $word == -) ]]; then
            ((given += 1))
        fi
        before=$word
    done
    if [[ $before == : ]]; then return; fi
    if [[ $current == = && -n $wants ]]; then current=''; fi
    if [[ -n $wants ]]; then
        _libhook_value "$wants" "${values[$wants]}"
    elif [[ $current == -* ]]; then
        _libhook_among "${options[*]}"
    elif [[ $command == libhook ]]; then
        _libhook_among "${arguments[*]}"
    else
        _libhook_value '' "${arguments[given]-}"
    fi
}

# Offers what can stand at $2, or after the option $1: FILE and its like are kinds of values, a|b are the values.
_libhook_value() {
    case $1:$2 in
    *:GUEST\|XML) compopt -o default; _libhook_guests ;;
    *:DOMAIN | *:GUEST | --vm:* | -vm:*) _libhook_guests ;;
    *XML | *:FILE) compopt -o default ;;
    *:[A-Z]*) ;;
    *) _libhook_among "${2//|/ }" ;;
    esac
}

# Offers those of $1's words, which are ours, that begin as what is typed.
_libhook_among() {
    local word
    for word in $1; do
        if [[ $word == "$current"* ]]; then COMPREPLY+=("$word"); fi
    done
}

# Offers the guests, quoted as what is typed is. A guest's name is data: nothing here may evaluate it, as compgen -W would.
# Not offered is what a shell acts on even within quotes (an interactive one on "!": it puts an earlier command there),
# what libhook would take for an option, and what a terminal may not show as it is.
_libhook_guests() {
    local name typed=${current#[\'\"]} quoted='' harmless='][[:alnum:] #%&()*+,./:;<=>?@^_{|}~-'
    typed=${typed//\\/}
    while IFS= read -r name; do
        if [[ -z $name || $name == -* || $name == *[!$harmless]* || $name != "$typed"* ]]; then continue; fi
        case $current in
        [\'\"]*) quoted=$name ;;
        *)
            printf -v quoted %q "$name"
            if [[ $quoted != \$\'* ]]; then
                quoted=${quoted//:/\\:} quoted=${quoted//=/\\=} quoted=${quoted//@/\\@}
            fi
            ;;
        esac
        COMPREPLY+=("$quoted")
    done < <(timeout 2 virsh -r -q -c qemu:///system list --all --name 2>/dev/null </dev/null)
}

complete -F _libhook libhook
