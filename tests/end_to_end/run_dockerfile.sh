#!/usr/bin/env bash
# Execute the Dockerfile without a container engine: run its stages in Debian roots made by debootstrap, then `glionode demo`
# and HEALTHCHECK in the last one. Run it as root, on a machine that reaches Debian's and Python's packages; it takes about
# 10 minutes and 8 GB. PIP_* variables of the environment are passed on; if they name folders of this machine, add
# --bind DIR. See walk_with_dockerfile.py for all options.
#
#   tests/end_to_end/run_dockerfile.sh                                   # the image for CPUs
#   tests/end_to_end/run_dockerfile.sh --build-arg TORCH_INDEX=          # with the PyTorch of pip's own index
#   tests/end_to_end/run_dockerfile.sh --compose                         # and run orthanc-config/compose.yaml with it
set -euo pipefail
cd "$(dirname "$0")/../.."

[ "$(id -u)" = 0 ] || { echo "debootstrap and chroot need root." >&2; exit 64; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 64; }

# The mount namespace removes what is mounted into the roots when this script ends, however it ends.
exec unshare --mount --pid --mount-proc --fork --kill-child .venv/bin/python -m tests.end_to_end.walk_with_dockerfile "$@"
