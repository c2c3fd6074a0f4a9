#!/usr/bin/env bash
# A real Kubernetes on this machine, for tests: API server, etcd, controllers, scheduler, kubelet, kube-proxy, containerd.
#
#   cluster.sh up                  build or find the programs, then start the cluster (10 s once built)
#   cluster.sh down                end it, and put back what it has changed on this machine
#   cluster.sh run COMMAND...      up, COMMAND, down; down also after a failure and Ctrl-C
#   cluster.sh in COMMAND...       run a command in the cluster's network, with KUBECONFIG: cluster.sh in kubectl get pods
#   cluster.sh load IMAGE...       copy images from podman, unless they are there already
#
# CLUSTER is a folder for programs, images and state, by default build/cluster of this project. It needs root. All
# processes run in namespaces of their own (network, mounts, processes, IPC, UTS), so the end of their first process ends
# everything. Only one cluster runs on a machine, because kubelet changes settings of the kernel.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CLUSTER=$(realpath -m "${CLUSTER:-$here/../../../build/cluster}")
export CLUSTER RUN=$CLUSTER/run
export PATH=$CLUSTER/bin:$PATH:/usr/lib/cni:$CLUSTER/root/usr/bin:$CLUSTER/root/usr/sbin:$CLUSTER/root/usr/lib/cni

LOCK=/run/gate-test-cluster.lock
READY_TIMEOUT=${READY_TIMEOUT:-180} # seconds
# What kubelet sets for the whole machine (setupKernelTunables in its container manager).
KERNEL_SETTINGS=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys
  kernel.keys.root_maxbytes)
KERNEL_BEFORE=$CLUSTER/kernel-settings

log() { echo "cluster: $*" >&2; }

is_running() { [[ -s $RUN/first ]] && kill -0 "$(<"$RUN/first")" 2>/dev/null; }

inside() {
  is_running || { log "is not running; start it with: $0 up"; exit 1; }
  nsenter --target "$(<"$RUN/first")" --net --mount --pid --ipc --uts -- env --chdir="$PWD" "$@"
}

up() {
  ((EUID == 0)) || { log "needs root"; exit 1; }
  ! is_running || { log "runs already"; return 0; }
  # The processes of the cluster inherit the lock, so it is free as soon as they have ended.
  exec 9>>"$LOCK"
  flock --nonblock 9 || { log "another cluster runs on this machine, in $(<"$LOCK"); end it with CLUSTER=... $0 down"; exit 1; }
  echo "$CLUSTER" >"$LOCK"
  "$here/build.sh" 9>&-
  remove_state
  rm -rf "$RUN"
  mkdir -p "$RUN/log"
  # Those of an earlier cluster that was not ended properly are the ones to put back.
  if [[ ! -s $KERNEL_BEFORE ]]; then
    sysctl "${KERNEL_SETTINGS[@]}" >"$KERNEL_BEFORE.new"
    mv "$KERNEL_BEFORE.new" "$KERNEL_BEFORE"
  fi
  setsid unshare --net --mount --pid --ipc --uts --fork --kill-child=SIGKILL --mount-proc --propagation private \
    catatonit -- "$here/node.sh" </dev/null >"$RUN/log/node.log" 2>&1 &
  echo $! >"$RUN/unshare"
  await_ready
}

await_ready() {
  local second
  for ((second = 0; second < READY_TIMEOUT; second++)); do
    pgrep -P "$(<"$RUN/unshare")" >"$RUN/first" || true
    if is_running && inside KUBECONFIG="$RUN/admin.kubeconfig" kubectl get node node1 --no-headers 2>/dev/null |
      grep -qw Ready; then
      log "ready after $second s"
      return
    fi
    kill -0 "$(<"$RUN/unshare")" 2>/dev/null || break
    sleep 1
  done
  log "did not become ready; the logs are in $RUN/log"
  tail -n 20 "$RUN/log/node.log" >&2
  down
  exit 1
}

down() {
  local unshare=
  [[ ! -s $RUN/unshare ]] || unshare=$(<"$RUN/unshare")
  # SIGKILL for the first process of a process namespace ends all others; mounts and network go with them.
  ! is_running || kill -KILL "$(<"$RUN/first")" 2>/dev/null || true
  while [[ -n $unshare ]] && kill -0 "$unshare" 2>/dev/null; do sleep 0.1; done
  if ! holds_lock; then
    log "another cluster runs on this machine, in $(<"$LOCK"); its control groups and the kernel's settings stay"
    return
  fi
  remove_state
  if [[ -s $KERNEL_BEFORE ]]; then
    sysctl --quiet --load "$KERNEL_BEFORE"
    rm "$KERNEL_BEFORE"
  fi
}

# Takes the lock unless this script has it already. The processes that have just ended may hold it for a moment.
holds_lock() {
  { true >&9; } 2>/dev/null || exec 9>>"$LOCK"
  flock --timeout 5 9
}

# The logs stay until the next start.
remove_state() {
  [[ ! -d $RUN ]] || find "$RUN" -mindepth 1 -maxdepth 1 ! -name log -exec rm -rf {} +
  local folder
  for folder in /sys/fs/cgroup/gate-k8s /sys/fs/cgroup/*/gate-k8s; do
    [[ ! -d $folder ]] || find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}

run() {
  trap 'trap "" INT TERM; down' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  up
  "$@" 9>&-
}

# An image is copied if another one was copied under its name before. The copies stay for the next cluster.
load() {
  local image id seen missing=()
  mkdir -p "$CLUSTER/containerd/copied"
  for image; do
    id=$(podman image inspect --format '{{.Id}}' "$image")
    seen=$CLUSTER/containerd/copied/${image//\//_}
    [[ -f $seen && $(<"$seen") == "$id" ]] || missing+=("$image")
  done
  ((${#missing[@]})) || return 0
  podman save --quiet --multi-image-archive "${missing[@]}" |
    inside ctr --address /run/containerd.sock --namespace k8s.io images import - >&2
  for image in "${missing[@]}"; do
    podman image inspect --format '{{.Id}}' "$image" >"$CLUSTER/containerd/copied/${image//\//_}"
  done
}

case ${1:-} in
  up | down) "$1" ;;
  run | load) "$@" ;;
  in) shift; inside KUBECONFIG="$RUN/admin.kubeconfig" "$@" ;;
  *) sed -nE '2,/^set /{s/^# ?//p}' "$0" >&2; exit 2 ;;
esac
