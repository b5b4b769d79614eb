#!/usr/bin/env bash
# Records the profile by which the server is compiled: profile.sh BINARY OUTPUT. Machine and load should be otherwise quiet.
set -euo pipefail
bin=$1 out=$2
dir=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$dir"' EXIT

profile() { # profile NAME SCENARIO: 5 s of a server under that load
	local listen=127.0.0.1:$((20000 + RANDOM % 10000))
	"$bin" --listen "$listen" --turn=false --admin-socket "$dir/admin.sock" --log-level error \
		--messages-per-10s 1000000 --offers-per-minute 1000000 --offers-at-once 1000 >/dev/null &
	server=$!
	sleep 1
	"$bin" load "http://$listen" --scenario "$2" --devices 1000 --duration 10s >"$dir/load.log" 2>&1 &
	local load=$!
	sleep 4
	curl -sf --unix-socket "$dir/admin.sock" 'http://admin/debug/pprof/profile?seconds=5' -o "$dir/$1"
	wait "$load" || { tail -n 5 "$dir/load.log" >&2; exit 1; }
	kill "$server" && wait "$server" || true
}
profile relay pairs
profile login auth
go tool pprof -proto -output="$out" "$dir/relay" "$dir/login" 2>/dev/null
ls -l "$out"
