#!/bin/sh
# The one place that spells how a container is built and entered.
#
#     slurm/container.sh IMAGE COMMAND...          run COMMAND in IMAGE, with GPUs and SLURM where they are
#     slurm/container.sh build IMAGE [OPTION...]   build IMAGE from Singularity.def; OPTIONs are those of apptainer build
set -eu

here=$(dirname "$0")
tool=$(command -v apptainer || command -v singularity || true)
if [ "$#" -lt 2 ]; then
    echo "usage: $0 IMAGE COMMAND... | $0 build IMAGE [OPTION...]" >&2
    exit 2
fi
if [ -z "$tool" ]; then
    echo "$0: neither apptainer nor singularity is here: load its module, or ask who runs the cluster" >&2
    exit 2
fi

if [ "$1" = build ]; then
    image=$2
    shift 2
    cd "$here/.."
    commit=$(git describe --always --dirty --abbrev=40 --exclude='*')
    "$tool" build --build-arg COMMIT="$commit" "$@" "$image" Singularity.def
    sha256sum "$image" | cut -d ' ' -f 1 > "$image.sha256"  # what a run notes of its container
    exit
fi

image=$1
shift
set -- "$image" "$@"
# What a job needs to ask SLURM for its requeue: its commands, its configuration, its plugins, and munge's socket.
for path in /usr/bin/scontrol /usr/bin/sbatch /usr/bin/squeue /usr/bin/sacct /usr/bin/scancel /etc/slurm \
    /usr/lib64/slurm /usr/lib/x86_64-linux-gnu/slurm-wlm /run/munge; do
    if [ -e "$path" ]; then
        set -- --bind "$path" "$@"
    fi
done
for library in /usr/lib64/libmunge.so.2 /usr/lib/x86_64-linux-gnu/libmunge.so.2; do
    if [ -e "$library" ]; then
        set -- --bind "$library" "$@"
    fi
done
if [ -e /dev/nvidiactl ]; then
    set -- --nv "$@"
fi
if [ -f "$image.sha256" ]; then
    set -- --env "HG3_CONTAINER_DIGEST=sha256:$(cat "$image.sha256")" "$@"
fi
exec "$tool" exec "$@"
