#!/bin/sh
# A Slurm cluster of one machine, to try `--launcher slurm` where there is none; for tests, not for
# work. Debian or Ubuntu, as root:
#
#   apt-get install slurmctld slurmd slurm-client munge
#   scripts/slurm.sh start [NODES]     NODES: as many slurmd, 1 by default, on the loopback alone
#   export SLURM_CONF=/tmp/bab-slurm/slurm.conf
#   sinfo
#   scripts/slurm.sh stop
#
# All that it writes, logs too, is in $BAB_SLURM (default: /tmp/bab-slurm). Nothing of a Slurm that
# is installed here is touched: it has its own munge, ports and state. No accounting (slurmdbd), no
# cgroups: what a small laboratory's cluster may lack too.
set -eu
here=${BAB_SLURM:-/tmp/bab-slurm}
port=${BAB_SLURM_PORT:-17800}

kill_all() {
    for file in "$here"/*.pid; do
        [ -f "$file" ] || continue
        pid=$(cat "$file")
        # A number that another process has by now is left alone.
        case "$(cat "/proc/$pid/comm" 2>/dev/null || true)" in
            munged | slurmctld | slurmd) kill "$pid" ;;
        esac
        i=0
        while [ -d "/proc/$pid" ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i + 1)); done
        rm -f "$file"
    done
}

start() {
    for program in munged slurmctld slurmd; do
        command -v $program >/dev/null || {
            echo "there is no $program: apt-get install slurmctld slurmd slurm-client munge" >&2
            exit 2
        }
    done
    nodes=${1:-1}
    kill_all
    rm -rf "$here"
    mkdir -p "$here/state" "$here/spool"
    chmod 755 "$here"
    dd if=/dev/urandom of="$here/munge.key" bs=1024 count=1 2>/dev/null
    chmod 400 "$here/munge.key"
    munged --force --key-file="$here/munge.key" --socket="$here/munge.sock" \
        --pid-file="$here/munged.pid" --log-file="$here/munged.log" \
        --seed-file="$here/munged.seed" --num-threads=2
    memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
    cores=$(nproc)
    host=$(hostname -s)
    cat >"$here/slurm.conf" <<CONF
ClusterName=bab
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$here/munge.sock
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool/%n
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd-%n.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
SlurmdTimeout=30
MinJobAge=60
KillWait=10
JobRequeue=1
CONF
    n=1
    while [ "$n" -le "$nodes" ]; do
        echo "NodeName=n$n NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + n)) CPUs=$cores RealMemory=$memory" >>"$here/slurm.conf"
        n=$((n + 1))
    done
    echo "PartitionName=main Nodes=n[1-$nodes] Default=YES MaxTime=INFINITE State=UP" >>"$here/slurm.conf"
    SLURM_CONF=$here/slurm.conf
    export SLURM_CONF
    slurmctld -f "$SLURM_CONF"
    n=1
    while [ "$n" -le "$nodes" ]; do
        slurmd -f "$SLURM_CONF" -N "n$n"
        n=$((n + 1))
    done
    i=0
    until [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = "$nodes" ]; do
        i=$((i + 1))
        if [ $i -gt 150 ]; then
            echo "Slurm isn't up after 30 s: look into $here/*.log" >&2
            exit 1
        fi
        sleep 0.2
    done
    echo "export SLURM_CONF=$SLURM_CONF"
}

case "${1:-}" in
    start) shift && start "$@" ;;
    stop) kill_all && rm -rf "$here" ;;
    *) sed -n '2,12p' "$0" && exit 2 ;;
esac
