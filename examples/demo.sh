#!/bin/sh
# Brings two-rooms.yaml up, looks at it, sends real traffic of real programs
# through it, and takes it down. Needs no root where user namespaces are
# allowed. usage: examples/demo.sh [TAPROOM]
set -eu
taproom=${1:-./taproom}
here=$(dirname "$0")
PATH=$PATH:/usr/sbin:/sbin

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() { printf '\033[2m$ taproom %s\033[0m\n' "$*"; "$taproom" -l two-rooms "$@"; }

if ! "$taproom" doctor >/tmp/taproom-doctor.$$ 2>&1; then
  cat /tmp/taproom-doctor.$$; rm -f /tmp/taproom-doctor.$$
  echo "this machine cannot run the demo: see BAD above" >&2
  exit 1
fi
rm -f /tmp/taproom-doctor.$$
missing=""
for tool in ping traceroute nc; do
  command -v $tool >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
  echo "the demo needs:$missing" >&2
  echo "to install them: sudo apt-get install iputils-ping traceroute netcat-openbsd" >&2
  exit 1
fi

"$taproom" -l two-rooms down >/dev/null 2>&1 || true # of an earlier run
trap '"$taproom" -l two-rooms down >/dev/null 2>&1 || true' EXIT
trap 'exit 130' INT TERM

say "two namespaces, two routers in user space, three wires"
printf '\033[2m$ taproom up -d %s\033[0m\n' "$here/two-rooms.yaml"
"$taproom" up -d "$here/two-rooms.yaml"
run show

say "ping, IPv4 and IPv6"
run exec alice -- ping -n -c 3 -i 0.2 10.0.2.2
run exec alice -- ping -n -c 3 -i 0.2 fd00:2::2

say "the way there and back"
run exec alice -- traceroute -n -q 1 10.0.2.2
run exec alice -- traceroute -n -q 1 fd00:2::2
run exec bob -- traceroute -n -q 1 10.0.1.2
run exec bob -- traceroute -n -q 1 fd00:1::2

# wait_for_port ROOM PROTO PORT: until somebody listens
wait_for_port() {
  hex=$(printf '%04X' "$3")
  i=0
  until "$taproom" -l two-rooms exec "$1" -- cat "/proc/self/net/$2" "/proc/self/net/${2}6" | grep -q ":$hex "; do
    i=$((i + 1)); [ $i -lt 100 ] || { echo "nobody listens on $2 port $3 in $1" >&2; exit 1; }
  done
}

# exchange PROTO NC-FLAGS ADDRESS PORT: bob answers what alice says
exchange() {
  answer=$(mktemp)
  echo "hello alice, this is bob over $1" |
    "$taproom" -l two-rooms exec bob -- timeout 10 nc $2 -l -w 2 "$4" >"$answer" &
  listener=$!
  wait_for_port bob "$1" "$4"
  said=$(echo "hello bob, this is alice over $1" | "$taproom" -l two-rooms exec alice -- timeout 10 nc $2 -w 2 "$3" "$4" || true)
  wait $listener || true
  echo "bob heard:   $(cat "$answer")"
  echo "alice heard: $said"
  grep -q "this is alice over $1" "$answer" && [ "$said" = "hello alice, this is bob over $1" ] ||
    { rm -f "$answer"; echo "the $1 exchange failed" >&2; exit 1; }
  rm -f "$answer"
}

say "TCP, netcat to netcat"
exchange tcp "-4" 10.0.2.2 7001
exchange tcp "-6" fd00:2::2 7002

say "UDP, netcat to netcat"
exchange udp "-4 -u" 10.0.2.2 7003
exchange udp "-6 -u" fd00:2::2 7004

say "a worse line, while it is up"
run link set r1:eth1 delay 30ms loss 10%
run exec alice -- ping -n -c 5 -i 0.2 10.0.2.2 || true
run link set r1:eth1 delay 1ms loss 0

say "what the routers counted"
run show r1
run link show r1:eth1

say "the lab's own expectations"
run expect

say "down"
run down
[ -z "$("$taproom" ps -j | grep -w two-rooms)" ] && echo "nothing is left"
