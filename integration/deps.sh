#!/bin/sh
# Installs what the demo ("demo") or the tests need beside Go, where this is
# Debian and we are root; elsewhere it names what is missing and how to get it.
set -u
demo="ip:iproute2 ping:iputils-ping traceroute:traceroute nc:netcat-openbsd"
tests="$demo tc:iproute2 tracepath:iputils-tracepath iperf3:iperf3 clang:clang llc:llvm tshark:tshark \
dnsmasq:dnsmasq-base dig:dnsutils jq:jq nft:nftables newuidmap:uidmap ethtool:ethtool \
qemu-system-x86_64:qemu-system-x86 cpio:cpio bpftool:bpftool slirp4netns:slirp4netns pasta:passt \
python3:python3 promtool:prometheus /usr/include/bpf/bpf_helpers.h:libbpf-dev"

want=$tests
[ "${1:-}" = demo ] && want=$demo
missing=""
for w in $want; do
  [ -e "${w%%:*}" ] || PATH=$PATH:/usr/sbin:/sbin command -v "${w%%:*}" >/dev/null 2>&1 || missing="$missing ${w#*:}"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  # A package that cannot be had is named; what needs it skips by name.
  apt-get install -y -q --no-install-recommends $missing >/dev/null 2>&1 ||
    { apt-get update -q >/dev/null 2>&1
      for p in $missing; do
        apt-get install -y -q --no-install-recommends "$p" >/dev/null 2>&1 || echo "cannot install $p"
      done; }
else
  echo "missing:$missing"
  echo "to install them: sudo apt-get install$missing"
fi
exit 0
