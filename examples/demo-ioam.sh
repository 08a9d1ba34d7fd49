#!/bin/sh
# Brings ioam-path.yaml up and lets the traces in its packets tell which of the
# wires is the slow one. usage: examples/demo-ioam.sh [TAPROOM]
set -eu
taproom=${1:-./taproom}
here=$(dirname "$0")
PATH=$PATH:/usr/sbin:/sbin

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() { printf '\033[2m$ taproom %s\033[0m\n' "$*"; "$taproom" -l ioam-path "$@"; }

"$taproom" -l ioam-path down >/dev/null 2>&1 || true # of an earlier run
trap '"$taproom" -l ioam-path down >/dev/null 2>&1 || true' EXIT
trap 'exit 130' INT TERM

say "six routers, two ways, one slow wire: every packet says where it has been"
printf '\033[2m$ taproom up -d %s\033[0m\n' "$here/ioam-path.yaml"
"$taproom" up -d "$here/ioam-path.yaml"
run exec alice -- ping -n -q -c 20 -i 0.05 fd00:b::2
run ioam paths
run ioam r1 probe fd00:b:1::1

say "down"
run down
