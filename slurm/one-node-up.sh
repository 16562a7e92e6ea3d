#!/usr/bin/env bash
# A real SLURM of one node on this machine, with accounting, to try hg3 on and to test it with.
#
#   slurm/one-node-up.sh               bring it up, or find it up; needs root
#   slurm/one-node-up.sh --install     the same, with Debian's packages installed first where they are missing
#   . "$HG3_SLURM_DIR/env.sh"          in the shell that submits: points SLURM's commands to this cluster
#   slurm/one-node-down.sh             end it and remove its folder
#
# Settings, in the environment:
#   HG3_SLURM_DIR    where all of it lives: configuration, logs, database (/tmp/hg3-slurm)
#   HG3_SLURM_CPUS   CPUs that the node offers (8; jobs of a test are small, and more than one core is not needed)
#   HG3_SLURM_ARRAY  MaxArraySize (8, so that splitting an array is seen)
#   HG3_SLURM_PORT   first of three ports (6817)
#
# Nothing is started by systemd and nothing outside HG3_SLURM_DIR is written, but for this node's own name in
# /etc/hosts where it is unknown. Partitions: main, and high, whose jobs push those of main out (requeue, 10 s grace).
set -euo pipefail

home=${HG3_SLURM_DIR:-/tmp/hg3-slurm}
cpus=${HG3_SLURM_CPUS:-8}
array=${HG3_SLURM_ARRAY:-8}
port=${HG3_SLURM_PORT:-6817}
packages=(slurmctld slurmd slurm-client slurmdbd munge mariadb-server)
node=$(hostname -s)
export LC_ALL=C PATH="/usr/sbin:/sbin:$PATH"

fail() {
  echo "one-node-up: $*" >&2
  exit 1
}

cannot() { # this machine lacks something; exit status 2 tells it from a cluster that is broken
  echo "one-node-up: $*" >&2
  exit 2
}

# until SECONDS WHAT COMMAND...: wait until the command succeeds
until_up() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until timeout 5 "$@" > /dev/null 2>&1 < /dev/null; do
    if [ "$SECONDS" -ge "$end" ]; then
      tail -n 20 "$home"/log/*.log >&2 || true
      fail "$what did not come up; its log is in $home/log"
    fi
    sleep 0.2
  done
}

install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q '^install ok installed' || missing+=("$package")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  command -v apt-get > /dev/null || cannot "this is no Debian: install ${missing[*]} by hand"
  # the packages would start services of their own; this is Debian's way to forbid it, and it is taken back
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
  fi
  apt-get update -qq < /dev/null >&2 || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" < /dev/null > /dev/null ||
    cannot "the packages ${missing[*]} could not be installed"
}

is_up() {
  [ -e "$home/env.sh" ] || return 1
  SLURM_CONF=$home/slurm.conf timeout 5 scontrol ping 2> /dev/null | grep -q 'is UP' || return 1
  SLURM_CONF=$home/slurm.conf timeout 5 sinfo -h -o %T 2> /dev/null | grep -Eq 'idle|mixed|allocated'
}

start_munge() { # a key and a socket of its own, so that another munge on this machine is not touched
  (umask 077 && head -c 1024 /dev/urandom > "$home/munge/key")
  munged --force --key-file="$home/munge/key" --socket="$home/munge/socket" --pid-file="$home/run/munged.pid" \
    --seed-file="$home/munge/seed" --log-file="$home/log/munged.log" < /dev/null
  until_up 10 munged munge -n -S "$home/munge/socket"
}

start_database() { # without accounting, sacct is disabled, and nobody learns how a job ended
  mariadb-install-db --no-defaults --user=root --datadir="$home/mysql" --auth-root-authentication-method=socket \
    --skip-test-db > "$home/log/mariadb-install.log" 2>&1 < /dev/null || fail "mariadb-install-db: see $home/log"
  mariadbd --no-defaults --user=root --datadir="$home/mysql" --socket="$home/run/mysql.sock" --skip-networking \
    --pid-file="$home/run/mariadbd.pid" --log-error="$home/log/mariadb.log" --innodb-buffer-pool-size=64M \
    --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 < /dev/null > /dev/null 2>&1 &
  until_up 30 mariadbd mariadb-admin --no-defaults --socket="$home/run/mysql.sock" ping
}

write_configuration() {
  local memory listening=
  # all listen on the address that the node's name means alone; where it means another than this, they would not meet
  if [ "$(getent ahostsv4 "$node" | awk '{ print $1; exit }')" = 127.0.0.1 ]; then
    listening=CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
  fi
  memory=$(awk '/MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)
  cat > "$home/slurmdbd.conf" << END
AuthType=auth/munge
AuthInfo=socket=$home/munge/socket
DbdHost=localhost
$listening
DbdPort=$((port + 2))
SlurmUser=root
LogFile=$home/log/slurmdbd.log
PidFile=$home/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
CommitDelay=1
END
  chmod 600 "$home/slurmdbd.conf"
  cat > "$home/slurm.conf" << END
ClusterName=one-node
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# a requeued job waits until its old credential has expired: 120 s, if it is not said
AuthInfo=socket=$home/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
SlurmctldPidFile=$home/run/slurmctld.pid
SlurmdPidFile=$home/run/slurmd.pid
SlurmctldLogFile=$home/log/slurmctld.log
SlurmdLogFile=$home/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
$listening
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=1,sched_interval=1,bf_interval=1,defer_batch
# the node may offer more CPUs than the machine has
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
$(preemption_signal)
JobRequeue=1
MaxArraySize=$array
MaxJobCount=10000
MinJobAge=600
KillWait=5
InactiveLimit=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$((port + 2))
# with munge this is its socket: AuthInfo is not read for connections to slurmdbd
AccountingStoragePass=$home/munge/socket
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=1-0 DefaultTime=60 State=UP PriorityTier=1 GraceTime=10
PartitionName=high Nodes=$node Default=NO MaxTime=1-0 State=UP PriorityTier=10 PreemptMode=OFF
END
  # no plugin above uses cgroups; without this file the parser complains
  printf 'CgroupAutomount=no\n' > "$home/cgroup.conf"
  printf 'export SLURM_CONF=%q HG3_SLURM_DIR=%q\n' "$home/slurm.conf" "$home" > "$home/env.sh"
}

preemption_signal() { # the same setting, before and after SLURM 23.11
  if [ "$(slurmctld -V | sed 's/[^0-9.]*//' | awk -F. '{ print ($1 * 100 + $2 >= 2311) }')" = 1 ]; then
    echo PreemptParameters=send_user_signal
  else
    echo SlurmctldParameters=preempt_send_user_signal
  fi
}

start_slurm() {
  export SLURM_CONF=$home/slurm.conf
  # slurmdbd finds its configuration beside slurm.conf, and the database's socket in this variable
  MYSQL_UNIX_PORT="$home/run/mysql.sock" slurmdbd < /dev/null > /dev/null 2>&1
  until_up 30 slurmdbd sacctmgr -n -i show cluster
  timeout 20 sacctmgr -Q -i add cluster one-node < /dev/null > /dev/null 2>&1 || true
  slurmctld -c < /dev/null > /dev/null 2>&1
  until_up 20 slurmctld sh -c 'scontrol ping | grep -q "is UP"'
  slurmd -N "$node" < /dev/null > /dev/null 2>&1 || slurmd < /dev/null > /dev/null 2>&1
  until_up 20 "an idle node" sh -c 'sinfo -h -o %T | grep -q idle'
}

[ "$(id -u)" = 0 ] || cannot "needs root, for slurmd starts jobs as the one who submits them; --cluster local needs none"
[ "${1:-}" != --install ] || install_packages
for program in munged mariadbd slurmdbd slurmctld slurmd sbatch; do
  command -v "$program" > /dev/null || cannot "$program is not installed; run it with --install, or install ${packages[*]}"
done
if is_up; then
  echo "already up; in the shell that submits: . $home/env.sh"
  exit 0
fi
HG3_SLURM_DIR=$home "$(dirname "$(readlink -f "$0")")/one-node-down.sh" > /dev/null 2>&1 || true
mkdir -p "$home"/{log,run,state,spool,munge}
chmod 755 "$home"
getent hosts "$node" > /dev/null || echo "127.0.0.1 $node" >> /etc/hosts
start_munge
start_database
write_configuration
start_slurm
echo "up: $(sinfo -h -N -o '%N, %c CPUs, %m MB' | head -n 1); in the shell that submits: . $home/env.sh"
