#!/usr/bin/env bash
# Builds or finds the programs of a Kubernetes cluster below $CLUSTER; cluster.sh calls it. Once built, it takes a moment.
#
# The programs of Kubernetes come from their Go modules: 20 minutes of CPU, 2 GB of memory and 4 GB of disk at the most,
# of which 0.4 GB stay. What Debian has as a package and this machine lacks is unpacked and not installed, so that
# nothing is started.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${CLUSTER:?names a folder for the programs and the state of the cluster}"
version=$(sed -nE 's/^\s*k8s\.io\/kubernetes (v[0-9.]+).*/\1/p' "$here/go.mod")
mkdir -p "$CLUSTER/bin" "$CLUSTER/images"

log() { echo "cluster: $*" >&2; }

build_programs() {
  local built=$CLUSTER/bin/built wanted
  wanted=$(cat "$here/go.mod" "$here/go.sum" | sha256sum)
  [[ ! -f $built || $(<"$built") != "$wanted" ]] || return 0
  command -v go >/dev/null || { log "needs Go, to build Kubernetes $version"; exit 1; }
  log "builds Kubernetes $version (once; 20 minutes of CPU) ..."
  # -modcacherw: otherwise rm -rf could not delete the cache.
  export GOMODCACHE=$CLUSTER/go/mod GOCACHE=$CLUSTER/go/cache CGO_ENABLED=0 GOFLAGS="-buildvcs=false -modcacherw"
  local package=k8s.io/component-base/version minor=${version#v1.}
  local flags="-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
  local program
  for program in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    log "builds $program"
    (cd "$here" && go build -p 2 -trimpath -ldflags "$flags -X $package.gitTreeState=clean" \
      -o "$CLUSTER/bin/" "k8s.io/kubernetes/cmd/$program")
  done
  echo "$wanted" >"$built"
  rm -rf "$CLUSTER/go"
}

# unpack COMMAND PACKAGE: the command is searched for on the machine, then in $CLUSTER/root.
unpack() {
  PATH=$PATH:/usr/lib/cni:$CLUSTER/root/usr/bin:$CLUSTER/root/usr/sbin:$CLUSTER/root/usr/lib/cni \
    command -v "$1" >/dev/null && return 0
  log "unpacks Debian's $2"
  local folder
  folder=$(mktemp -d)
  (cd "$folder" && { apt-get download -qq "$2" || { apt-get update -qq && apt-get download -qq "$2"; } }) >/dev/null 2>&1 \
    || { log "cannot download Debian's $2; install it, or put $1 on PATH"; rm -rf "$folder"; exit 1; }
  dpkg-deb -x "$folder"/*.deb "$CLUSTER/root"
  rm -rf "$folder"
}

# The program that keeps the namespaces of a pod open and reaps its orphans: podman's own for its pods.
pack_pause() {
  [[ ! -f $CLUSTER/images/pause.tar ]] || return 0
  local folder
  folder=$(mktemp -d)
  cp "$(command -v catatonit)" "$folder/pause"
  printf '%s\n' 'FROM scratch' 'COPY pause /pause' 'ENTRYPOINT ["/pause", "-P"]' >"$folder/Dockerfile"
  podman build --quiet --tag localhost/pause:1 "$folder" >/dev/null
  podman save --quiet --output "$CLUSTER/images/pause.tar" localhost/pause:1
  rm -rf "$folder"
}

for program in podman catatonit iptables ip nsenter unshare openssl apt-get; do
  command -v "$program" >/dev/null || { log "needs $program"; exit 1; }
done
unpack etcd etcd-server
unpack containerd containerd
unpack runc runc
unpack host-local containernetworking-plugins
pack_pause
build_programs
