#!/usr/bin/env bash
# End the cluster that slurm/one-node-up.sh brought up, its jobs included, and remove its folder.
#
#   HG3_SLURM_DIR    the folder of the cluster (/tmp/hg3-slurm)
#
# Only the processes whose ids are in that folder are ended; called twice, it does nothing.
set -uo pipefail

home=${HG3_SLURM_DIR:-/tmp/hg3-slurm}
export SLURM_CONF=$home/slurm.conf PATH="/usr/sbin:/sbin:$PATH"

# stop NAME SECONDS: ask a daemon to end, and end it after so long
stop() {
  local id tries=$(($2 * 10))
  id=$(cat "$home/run/$1.pid" 2> /dev/null) && [ -n "$id" ] && kill "$id" 2> /dev/null || return 0
  while kill -0 "$id" 2> /dev/null; do
    tries=$((tries - 1))
    if [ "$tries" -le 0 ]; then
      kill -9 "$id" 2> /dev/null
      return 0
    fi
    sleep 0.1
  done
}

[ -d "$home/munge" ] || exit 0
if timeout 5 scontrol ping 2> /dev/null | grep -q 'is UP'; then
  timeout 10 squeue -h -o %A | sort -u | xargs -r timeout 10 scancel > /dev/null 2>&1
  for _ in $(seq 20); do
    [ -z "$(timeout 5 squeue -h 2> /dev/null)" ] && break
    sleep 0.5
  done
fi
stop slurmd 5
stop slurmctld 10
stop slurmdbd 10
stop mariadbd 15
stop munged 5
rm -rf "$home"
