#!/usr/bin/env bash
# Builds the Dockerfile with buildah and starts what is in the images as their user, on a read-only root file system.
#
#   test/image/check.sh            needs root, buildah, and an image with Go:
#   GO_IMAGE=golang:1.26           one from a registry, or, by default, one made here
#                                  from Debian (debootstrap) and this machine's Go
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf '%s\n' "$*" >&2; }
die() { say "image check: $*"; exit 1; }
[ "$(id -u)" = 0 ] || die "it has to run as root"
command -v buildah >/dev/null || die "buildah is missing: apt-get install buildah"
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}

work=$(mktemp -d)
containers=()
pids=()
cleanup() {
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
	wait 2>/dev/null || true
	for c in "${containers[@]}"; do buildah rm "$c" >/dev/null 2>&1 || true; done
	rm -rf "$work"
}
trap cleanup EXIT

go_image() { # an image with Go at /usr/local/go, certificates and a shell
	local name=localhost/peersignal-go ctr root
	if ! buildah inspect --type image "$name" >/dev/null 2>&1; then
		command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap, or set GO_IMAGE"
		say "making $name from Debian and $(go version)"
		debootstrap --variant=minbase --include=ca-certificates bookworm "$work/root" >"$work/debootstrap.log" 2>&1 ||
			{ tail -n 5 "$work/debootstrap.log" >&2; die "debootstrap failed"; }
		ctr=$(buildah from scratch)
		buildah add -q "$ctr" "$work/root" / >/dev/null
		buildah add -q "$ctr" "$(go env GOROOT)" /usr/local/go >/dev/null
		buildah config --env PATH=/usr/local/go/bin:/usr/bin:/bin "$ctr"
		buildah commit -q "$ctr" "$name" >/dev/null
		buildah rm "$ctr" >/dev/null
		rm -rf "$work/root"
	fi
	echo "$name"
}

build() { # build TARGET, with the modules that this machine has already
	say "building the image $1"
	buildah build -q --format docker --target "$1" --tag "localhost/$1" --build-arg GO_IMAGE="$go_image" --build-arg VERSION=image-check --build-arg TARGETARCH="$(go env GOARCH)" \
		--build-arg GOPROXY=file:///modules --volume "$(go env GOMODCACHE)/cache/download:/modules:ro" . >/dev/null
}

size_of() { # size_of IMAGE: bytes of its layers, unpacked
	local ctr root
	ctr=$(buildah from "localhost/$1")
	root=$(buildah mount "$ctr")
	du -sb "$root" | cut -f1
	buildah rm "$ctr" >/dev/null
}

start() { # start IMAGE LOG ARG...: its entry point as its user on a read-only root; sets root
	local image=$1 log=$2 ctr user
	shift 2
	ctr=$(buildah from "localhost/$image")
	containers+=("$ctr")
	root=$(buildah mount "$ctr")
	user=$(buildah inspect --format '{{.OCIv1.Config.User}}' "$ctr")
	[ "$user" = 65532:65532 ] || die "the image $image runs as \"$user\""
	inside "$user" "$root" "$@" >"$log" 2>&1 &
	pids+=($!)
}

inside() { # inside USER ROOT COMMAND...: with ROOT read-only but for /data
	local user=$1 root=$2
	shift 2
	exec unshare --mount -- sh -ec '
		user=$1 root=$2; shift 2
		mount --bind "$root" "$root"
		[ ! -d "$root/data" ] || mount --bind "$root/data" "$root/data"
		mount -o remount,bind,ro "$root"
		exec env -i PATH="$PATH" HOME=/data PEERD_DATA=/data/peerd chroot --userspec="$user" "$root" "$@"' \
		sh "$user" "$root" "$@"
}

until_ok() { # until_ok WHAT LOG COMMAND...: up to 20 s
	local what=$1 log=$2
	shift 2
	for _ in $(seq 100); do
		if "$@" >/dev/null 2>&1; then say "  ok: $what"; return; fi
		sleep 0.2
	done
	cat "$log" >&2
	die "not so: $what"
}

go_image=${GO_IMAGE:-$(go_image)}
go mod download
build peersignal
build peerd

for image in peersignal peerd; do
	size=$(size_of "$image")
	[ "$size" -lt $((40 * 1000 * 1000)) ] || die "the image $image has $size bytes, 40 MB at most"
	say "  ok: $image has $((size / 1000 / 1000)) MB"
done

port=$((20000 + RANDOM % 20000))
url=http://127.0.0.1:$port
start peersignal "$work/server.log" /usr/bin/peersignal --listen "127.0.0.1:$port" \
	--turn-listen "127.0.0.1:$((port + 1))" --turn-relay-ip 127.0.0.1
server_root=$root
until_ok "peersignal answers its health check" "$work/server.log" \
	chroot --userspec=65532:65532 "$server_root" /usr/bin/peersignal health --ready "$url"
until_ok "peersignal runs as user 65532" "$work/server.log" pgrep -u 65532 -f "peersignal --listen 127.0.0.1:$port"
until_ok "it serves metrics" "$work/server.log" sh -c "curl -sf $url/metrics | grep -q '^peersignal_build_info.*image-check'"

ctr=$(buildah from localhost/peerd)
containers+=("$ctr")
root=$(buildah mount "$ctr")
peerd() { (inside 65532:65532 "$root" /usr/bin/peerd "$@"); }
peerd init --name image --insecure-keystore >"$work/init.log" 2>&1 || { cat "$work/init.log" >&2; die "peerd init failed"; }
peerd up --server "$url" --allow-loopback >"$work/peerd.log" 2>&1 &
pids+=($!)
until_ok "peerd answers its health check" "$work/peerd.log" peerd status --json
until_ok "peerd is connected with peersignal" "$work/peerd.log" sh -c "curl -sf $url/metrics | grep -q '^peersignal_signaling_sessions 1$'"
peerd group create garden >/dev/null
printf '{"type":"Note","text":"from a container"}' | peerd put garden - >/dev/null
peerd export garden | grep -q 'from a container' || die "the document is not there"
say "  ok: peerd stores a document in its volume, on a read-only root file system"
if peerd init --data /elsewhere --name x --insecure-keystore >/dev/null 2>&1; then
	die "the root file system can be written"
fi
say "  ok: nothing else can be written"
