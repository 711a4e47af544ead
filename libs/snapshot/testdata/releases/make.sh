#!/bin/sh
# Makes NAME.db.gz and NAME.json.gz: a snapshot of an etcd of some release, and what that etcd says of every revision that
# is left. The files here are of etcd 3.4.13, 3.5.21 and 3.6.16, each built from its Go module by
# `go build go.etcd.io/etcd/server/v3` (3.4: a main that calls etcdmain.Main of go.etcd.io/etcd).
#
#   make.sh NAME ETCD ETCDCTL PORT
set -eu
name=$1 etcd=$2 ctl=$3 port=$4
dir=$(mktemp -d)
"$etcd" --data-dir "$dir/data" --listen-client-urls "http://127.0.0.1:$port" \
	--advertise-client-urls "http://127.0.0.1:$port" --listen-peer-urls "http://127.0.0.1:$((port + 1))" \
	--initial-advertise-peer-urls "http://127.0.0.1:$((port + 1))" \
	--initial-cluster "default=http://127.0.0.1:$((port + 1))" >"$dir/log" 2>&1 &
pid=$!
trap 'kill $pid; wait $pid; rm -rf "$dir"' EXIT
ctl() { "$ctl" --endpoints "127.0.0.1:$port" "$@"; }
until ctl get a >/dev/null 2>&1; do sleep 0.2; done

ctl put a 1
ctl put b 1
ctl put a 2
ctl del b
ctl put b 2
lease=$(ctl lease grant 3600 | cut -d' ' -f2)
ctl put leased 1 --lease="$lease"
printf 'put t1 x\nput t2 y\ndel a\n\n' | { echo; cat; echo; } | ctl txn
ctl put "$(printf 'bytes \001\377 end')" "$(head -c 3000 /dev/zero | tr '\0' v)"
ctl compact 6
ctl put a 3
ctl put leased 2 --lease="$lease"
ctl del t1
ctl user add root:pw
ctl role add reader
ctl role grant-permission reader read a
ctl user add someone:else
ctl user grant-role someone reader
ctl user grant-role root root 2>/dev/null || { ctl role add root && ctl user grant-role root root; }
ctl auth enable
as() { ctl --user root:pw "$@"; }
head=$(as get a -w json | sed 's/.*"revision":\([0-9]*\).*/\1/')
for rev in $(seq 6 "$head"); do as get '' --from-key --rev "$rev" -w json; done | gzip -n9 >"$name.json.gz"
as snapshot save "$dir/db"
gzip -n9 <"$dir/db" >"$name.db.gz"
