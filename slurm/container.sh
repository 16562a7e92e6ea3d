#!/bin/sh
# The one place that spells how a container is built and entered.
#
#     slurm/container.sh IMAGE COMMAND...          run COMMAND in IMAGE, with GPUs where they are
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
    case $2 in
        /*) image=$2 ;;
        *) image=$PWD/$2 ;;
    esac
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
if [ -e /dev/nvidiactl ]; then
    set -- --nv "$@"
fi
if [ -f "$image.sha256" ]; then
    set -- --env "HG3_CONTAINER_DIGEST=sha256:$(cat "$image.sha256")" "$@"
fi
if [ -z "${SLURM_JOB_ID:-}" ]; then
    exec "$tool" exec "$@"
fi

# A job that a signal has ended to go on later ends with status 144. The image knows nothing of SLURM, nor of the user
# that SLURM runs as, so the job is put back from out here. SLURM may send its signals to this shell alone.
"$tool" exec --env HG3_REQUEUED_BY_SHELL=1 "$@" <&0 &
child=$!
for name in TERM USR1 USR2; do
    # shellcheck disable=SC2064  # the names as they are now
    trap "kill -$name $child 2> /dev/null || true" "$name"
done
status=0
while kill -0 "$child" 2> /dev/null; do # a trap ends the waiting, not the child
    status=0
    wait "$child" || status=$?
done
if [ "$status" -eq 144 ]; then
    trap '' TERM # the requeue ends all of the job, scontrol among it, which must end its work first
    job=$SLURM_JOB_ID
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then
        job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    fi
    until scontrol requeue "$job"; do
        sleep 5 # SLURM ends this shell when the grace is over
    done
fi
exit "$status"
