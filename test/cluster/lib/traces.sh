# shellcheck shell=bash
# What a cluster may leave on the machine, one line each: taken before `up` and after `down`, both must be the same.
# Not the cache, which is meant to stay. Other programs run beside: only what they do not touch is listed.

cluster_traces() {
  local tree dir pid
  {
    # with the sysctls of interfaces and of the tables that the kernel fills by itself left out
    sysctl -a 2>/dev/null | grep -E '^(kernel\.(panic|keys)|vm\.(overcommit|panic)|fs\.inotify|net\.(ipv4\.(ip_forward|conf\.(all|default)\.(forwarding|rp_filter|route_localnet))|bridge|netfilter\.nf_conntrack_(max|tcp_timeout))|user\.max_)' | sed 's/^/sysctl /'
    ip -o link | awk -F': ' '{ sub(/@.*/, "", $2); print "link", $2 }'
    ip -o -4 address | awk '{ print "address", $2, $4 }'
    ip -4 route | sed 's/^/route /'
    nft list tables 2>/dev/null | sed 's/^/nft /' || true
    for dir in /run /run/netns /var/lib /var/log /opt /etc /etc/cni; do
      [ ! -d "$dir" ] || find "$dir" -mindepth 1 -maxdepth 1 -printf 'file %p\n'
    done
    losetup -n -O BACK-FILE -a | sed 's/^/loop /'
    awk '$3 != "cgroup" { print "mount", $2, $3 }' /proc/self/mounts | grep -e "$CACHE" -e "$RUN" -e kubelet -e containerd -e netns || true
    for tree in $(cgroup_trees); do find "$tree" -mindepth 1 -maxdepth 1 -type d -printf 'cgroup %p\n'; done
    for pid in /proc/[0-9]*; do
      traces_of_process "${pid#/proc/}"
    done
  } | LC_ALL=C sort -u
}

traces_of_process() { # PID: a line when it is of our cluster: what we start names our directories, what runs in pods is in the nodes' cgroups
  local command
  command=$({ tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null) || return 0
  case $command in
    *"$RUN"* | *"$STATE"/*) ;;
    *) grep -qs kvidx-node "/proc/$1/cgroup" || return 0 ;;
  esac
  # a process at its very end has no command line any more, and is no trace
  [ -n "${command// /}" ] || return 0
  echo "process ${command:0:120}"
}
