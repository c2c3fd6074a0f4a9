#!/usr/bin/env bash
# The node of the cluster, started by cluster.sh in namespaces of its own, with $CLUSTER, $RUN and PATH.
set -euo pipefail

NODE=10.99.0.1
PODS=10.98.0.0/24
SERVICES=10.97.0.0/24

isolate() {
  mount --make-rshared /
  : >resolv.conf
  mount --bind resolv.conf /etc/resolv.conf
  # What the programs write there must not reach the machine, and goes with the cluster.
  local folder
  for folder in /run /var/lib/cni /var/lib/kubelet /var/log; do
    mkdir -p "$folder"
    mount -t tmpfs tmpfs "$folder"
  done
  hostname node1
  sysctl --quiet -w net.ipv4.ip_forward=1
  ip link set lo up
  ip link add node0 type bridge
  ip addr add "$NODE/24" dev node0
  ip link set node0 up
  # kubelet and kube-proxy need a default route. Nothing answers behind this one.
  ip route add default via 10.99.0.254 dev node0
}

# kubelet wants its root in every hierarchy, also in that of systemd.
make_cgroups() {
  local hierarchy
  if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    mkdir -p /sys/fs/cgroup/gate-k8s
    sed 's/\</+/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
    return
  fi
  for hierarchy in /sys/fs/cgroup/*/; do
    [[ $hierarchy != */unified/ ]] || continue
    mkdir -p "${hierarchy}gate-k8s"
    if [[ -e ${hierarchy}cpuset.cpus ]]; then
      cat "${hierarchy}cpuset.cpus" >"${hierarchy}gate-k8s/cpuset.cpus"
      cat "${hierarchy}cpuset.mems" >"${hierarchy}gate-k8s/cpuset.mems"
    fi
  done
}

# add_user FILE USER GROUP: a random token in tokens.csv, and a kubeconfig with it.
add_user() {
  local token
  token=$(openssl rand -hex 16)
  echo "$token,$2,$1,\"$3\"" >>tokens.csv
  install -m 600 /dev/null "$1.kubeconfig"
  cat >"$1.kubeconfig" <<END
apiVersion: v1
kind: Config
current-context: gate
contexts: [{name: gate, context: {cluster: gate, user: gate}}]
clusters: [{name: gate, cluster: {server: "https://$NODE:6443", insecure-skip-tls-verify: true}}]
users: [{name: gate, user: {token: $token}}]
END
}

start() { # NAME COMMAND...
  "${@:2}" >"log/$1.log" 2>&1 &
}

await() { # COMMAND..., for at most two minutes
  local try
  for ((try = 0; try < 240; try++)); do
    ! "$@" >/dev/null 2>&1 || return 0
    sleep 0.5
  done
  echo "this did not succeed: $*"
  return 1
}

start_api() {
  touch tokens.csv
  chmod 600 tokens.csv
  openssl genrsa -out accounts.key 2048
  openssl rsa -in accounts.key -pubout -out accounts.pub
  add_user admin admin system:masters
  add_user controllers system:kube-controller-manager ""
  add_user scheduler system:kube-scheduler ""
  add_user kubelet system:node:node1 system:nodes
  add_user proxy system:kube-proxy ""
  start etcd etcd --data-dir /run/etcd --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --logger zap
  # The kubelet is reached by its address, because there is no name server.
  start apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --cert-dir=tls --bind-address="$NODE" \
    --advertise-address="$NODE" --service-cluster-ip-range="$SERVICES" --token-auth-file=tokens.csv \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --kubelet-preferred-address-types=InternalIP --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file=accounts.pub --service-account-signing-key-file=accounts.key --profiling=false
}

start_containers() {
  local plugins runtime='plugins."io.containerd.grpc.v1.cri"'
  plugins=$(dirname "$(command -v host-local)")
  mkdir -p "$CLUSTER/containerd" cni
  # restrict_oom_score_adj: a lower score needs CAP_SYS_RESOURCE, which a container on this machine may lack.
  cat >containerd.toml <<END
version = 2
root = "$CLUSTER/containerd"
state = "/run/containerd/state"
[grpc]
  address = "/run/containerd.sock"
[$runtime]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [$runtime.cni]
    bin_dir = "$plugins"
    conf_dir = "$RUN/cni"
  [$runtime.containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [$runtime.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
END
  cat >cni/10-gate.conflist <<END
{"cniVersion": "0.4.0", "name": "gate", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "/run/ipam", "ranges": [[{"subnet": "$PODS"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}}]}
END
  start containerd containerd --config containerd.toml
  local ctr=(ctr --address /run/containerd.sock --namespace k8s.io)
  await "${ctr[@]}" version
  # The images of an earlier cluster stay, its containers do not.
  "${ctr[@]}" containers ls --quiet | xargs --no-run-if-empty "${ctr[@]}" containers rm
  "${ctr[@]}" images import "$CLUSTER/images/pause.tar"
}

start_node() {
  cat >kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /gate-k8s
failCgroupV1: false
failSwapOn: false
resolvConf: $RUN/resolv.conf
clusterDNS: [10.97.0.10]
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
podLogsDir: $RUN/log/pods
volumePluginDir: /run/flexvolumes
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi}
localStorageCapacityIsolation: false
syncFrequency: 10s
END
  start controllers kube-controller-manager --kubeconfig=controllers.kubeconfig --use-service-account-credentials \
    --leader-elect=false --service-account-private-key-file=accounts.key --root-ca-file=tls/apiserver.crt \
    --profiling=false
  start scheduler kube-scheduler --kubeconfig=scheduler.kubeconfig --leader-elect=false --profiling=false
  start kubelet kubelet --config kubelet.yaml --kubeconfig kubelet.kubeconfig --hostname-override node1 \
    --node-ip "$NODE"
  start proxy kube-proxy --kubeconfig=proxy.kubeconfig --hostname-override=node1 --proxy-mode=iptables \
    --cluster-cidr="$PODS" --conntrack-max-per-core=0 --nodeport-addresses=127.0.0.0/8
}

cd "$RUN"
mkdir -p log
isolate
make_cgroups
start_api
start_containers
await kubectl --kubeconfig admin.kubeconfig get --raw /readyz
start_node
wait
