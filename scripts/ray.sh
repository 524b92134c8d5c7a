#!/usr/bin/env bash
# A Ray cluster of two nodes on one machine, to try `--launcher ray`; for tests, not for work.
#
#   pip install 'bab[ray]'
#   scripts/ray.sh start [CORES]       cores that each node offers, 2 by default
#   bab bench ... --launcher ray --set launcher.address=127.0.0.1:26379
#   scripts/ray.sh lose                ends the second node, as a machine that is lost
#   scripts/ray.sh stop
#
# Only what it started itself is ended. $RAY is the command (default: ray), $BAB_RAY the folder of
# its state (default: /tmp/bab-ray).
set -eu
here=${BAB_RAY:-/tmp/bab-ray}
port=${BAB_RAY_PORT:-26379}
ray=${RAY:-ray}

command -v "$ray" >/dev/null || {
    echo "there is no $ray: pip install 'bab[ray]', or name it: RAY=.venv/bin/ray" >&2
    exit 2
}
case "${1:-}" in
    start)
        cores=${2:-2}
        mkdir -p "$here/log"
        export RAY_DISABLE_IMPORT_WARNING=1 RAY_USAGE_STATS_ENABLED=0
        # --block: each node is one process of ours, with all of its own below it.
        setsid "$ray" start --head --block --port="$port" --num-cpus="$cores" --num-gpus=0 \
            --node-ip-address=127.0.0.1 --include-dashboard=false --temp-dir="$here/ray" \
            --object-store-memory=100000000 --disable-usage-stats >"$here/log/head" 2>&1 &
        echo $! >"$here/head.pid"
        sleep 8
        setsid "$ray" start --block --address="127.0.0.1:$port" --num-cpus="$cores" --num-gpus=0 \
            --node-ip-address=127.0.0.1 --object-store-memory=100000000 >"$here/log/second" 2>&1 &
        echo $! >"$here/second.pid"
        i=0
        until "$ray" status --address="127.0.0.1:$port" 2>/dev/null | grep -q "/$((2 * cores)).0 CPU"; do
            i=$((i + 1))
            if [ $i -gt 40 ]; then
                echo "Ray isn't up after a minute: look into $here/log" >&2
                exit 1
            fi
            sleep 1
        done
        echo "launcher.address=127.0.0.1:$port"
        ;;
    lose)
        # Ray's workers are in groups of their own, but in one session.
        ps -o pid= -s "$(cat "$here/second.pid")" | xargs kill -9
        rm "$here/second.pid"
        ;;
    stop)
        for file in "$here"/*.pid; do
            [ -f "$file" ] || continue
            kill -- "-$(cat "$file")" 2>/dev/null || true
            sleep 2
            ps -o pid= -s "$(cat "$file")" | xargs -r kill -9 2>/dev/null || true
        done
        rm -rf "$here"
        ;;
    *) sed -n '2,11p' "$0" && exit 2 ;;
esac
