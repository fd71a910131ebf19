#!/usr/bin/env bash
# Measure on a GPU within 8 minutes what benchmarks/ measures elsewhere on CPUs, and write one JSON file.
#
#     benchmarks/gpu.sh OUT.json [--device cuda] [--small] [--study FOLDER] [--parts "PART ..."] [--rows "ROW ..."]
#
# PART is case, align, network, compiled or training, and ROW one of whole_case.py; without the options it is all.
# case: benchmarks/whole_case.py, cold and warm, beside a plain pipeline; the others: benchmarks/device.py. Without
# --study a phantom is made. `--device cpu --small` tries the script in about a minute on a machine without a GPU.
# A part that fails or takes too long stands in the JSON with its exit status and its last lines; the others go on, and
# the exit status is 1. Needs what `make .venv/.installed-test` installs.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
out='' device=cuda small='' study='' parts='case align network compiled training' rows='ours warm plain floor'
while [ $# -gt 0 ]; do
    case $1 in
        --device) device=$2; shift ;;
        --small) small=--small ;;
        --study) study=$(realpath "$2"); shift ;;
        --parts) parts=$2; shift ;;
        --rows) rows=$2; shift ;;
        -*) echo "unknown option $1" >&2; exit 64 ;;
        *) out=$(realpath "$1") ;;
    esac
    shift
done
[ -n "$out" ] || { sed -n '4p' "$0" >&2; exit 64; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$here" || exit 1

# The limits add up to eight minutes, those of the study and of the collection included.
declare -A limits=([case]=190 [align]=60 [network]=60 [compiled]=60 [training]=45)

if [ -z "$study" ]; then
    study=$work/study
    timeout 50 "$python" -m benchmarks.studies "$study" $small || echo "the study was not made" >&2
fi
for part in $parts; do
    started=$EPOCHREALTIME
    case $part in
        case) repeats=$([ -n "$small" ] && echo 1 || echo 2)
            set -- benchmarks.whole_case "$study" --repeats "$repeats" --only $rows ;;
        align) set -- benchmarks.device align "$study" ;;
        *) set -- benchmarks.device "$part" ;;
    esac
    timeout "${limits[$part]:-60}" "$python" -m "$@" --device "$device" $small --json "$work/$part.json" \
        >"$work/$part.log" 2>&1
    echo "$? $started $EPOCHREALTIME" >"$work/$part.status"
    echo "$part: exit status $(cut -d' ' -f1 "$work/$part.status")" >&2
done
timeout 15 "$python" -m benchmarks.collect "$work" "$out" $parts
