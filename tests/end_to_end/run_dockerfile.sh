#!/usr/bin/env bash
# Execute the Dockerfile without a container engine: its stages in Debian roots made by debootstrap, then `glionode demo` and
# HEALTHCHECK in the last one. By hand, as root, on a machine that reaches Debian's and Python's packages; some 10 minutes
# and 8 GB. What pip needs to reach them (PIP_* variables) is taken from the environment; where folders of this machine
# belong to that, name them: --bind DIR. More arguments go on, see walk_with_dockerfile.py.
#
#   tests/end_to_end/run_dockerfile.sh                                   # the image for CPUs
#   tests/end_to_end/run_dockerfile.sh --build-arg TORCH_INDEX=          # with the PyTorch of pip's own index
#   tests/end_to_end/run_dockerfile.sh --compose                         # and orthanc-config/compose.yaml acted out with it
set -euo pipefail
cd "$(dirname "$0")/../.."

[ "$(id -u)" = 0 ] || { echo "debootstrap and chroot need root." >&2; exit 64; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 64; }

# A mount namespace of its own: what is mounted into the roots is gone when this ends, however it ends.
exec unshare --mount --pid --mount-proc --fork --kill-child .venv/bin/python -m tests.end_to_end.walk_with_dockerfile "$@"
