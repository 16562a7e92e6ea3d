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

# Of a job that hg3 submitted to SLURM this shell outlives the signals, which SLURM may send to it alone.
job='' child='' early=''
pass_on() { # a signal that comes before there is a child waits for it
    if [ -z "$child" ]; then
        early="$early $1"
    else
        kill "-$1" "$child" 2> /dev/null || true
    fi
}
if [ -n "${SLURM_JOB_ID:-}" ] && [ "${SUBMITIT_EXECUTOR:-}" = slurm ]; then
    job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    job=${job:-$SLURM_JOB_ID}
    for name in TERM USR1 USR2; do
        # shellcheck disable=SC2064  # the name as it is now
        trap "pass_on $name" "$name"
    done
fi

image=$1
shift
set -- "$image" "$@"
if [ -e /dev/nvidiactl ]; then
    set -- --nv "$@"
fi
# of an image that was replaced since it was built, the sum is that of another
if [ -f "$image.sha256" ] && [ -z "$(find "$image" -prune -newer "$image.sha256" 2> /dev/null)" ]; then
    set -- --env "HG3_CONTAINER_DIGEST=sha256:$(cat "$image.sha256")" "$@"
fi
if [ -z "$job" ]; then
    exec "$tool" exec "$@"
fi

# A job that a signal has ended to go on later ends with status 144. The image knows nothing of SLURM, nor of the user
# that SLURM runs as, so the job is put back from out here.
"$tool" exec --env HG3_REQUEUED_BY_SHELL=1 "$@" <&0 &
child=$!
[ -z "$early" ] || sleep 1 # until the child is the tool, and no copy of this shell, which would forget a signal
for name in $early; do
    pass_on "$name"
done
status=0
wait "$child" || status=$? # also of a child that an early signal has ended by now
while kill -0 "$child" 2> /dev/null; do # a trap ends the waiting, not the child
    status=0
    wait "$child" || status=$?
done
# 140 is 128 + USR2, of a child that the signal found before it could hold it back
if [ "$status" -eq 144 ] || [ "$status" -eq 140 ]; then
    trap '' TERM # the requeue ends all of the job, scontrol among it, which must end its work first
    until scontrol requeue "$job"; do
        sleep 5 # SLURM ends this shell when the grace is over
    done
fi
exit "$status"
