#!/usr/bin/env bash
# Builds examples/slackbot with an empty state, again unchanged, and with one line changed: by skiff, and beside it by buildkitd,
# buildah and plain `go build` where they are installed. Prints seconds and, for each, the ratio to plain go build.
#
#   bench/run.sh [RUNS]       RUNS of "unchanged" and "one line", the median counts (default 5)
#   GOLANG=IMAGE              the builder image for the others, where docker.io is out of reach
#   BUILDKIT_HOST=ADDRESS     a running buildkitd, for buildctl
#
# The machine's network is in the "cold" column: modules, the toolchain for skiff, the image for the others.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-5}
golang=${GOLANG:-docker.io/library/golang:1.26-alpine}
work=$(mktemp -d "${TMPDIR:-/tmp}/skiff-bench.XXXXXX")
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT

# A context of its own for each tool: the one line is changed in it.
fresh() {
  rm -rf "$work/src-$1"
  cp -r examples/slackbot "$work/src-$1"
  cp examples/slackbot/.dockerignore "$work/src-$1/"
}
edit() { sed -i "s/pong[0-9]*\"/pong$2\"/" "$work/src-$1/bot.go"; }

now() { echo "${EPOCHREALTIME/[.,]/}"; } # microseconds

# timed COMMAND…: prints milliseconds; what the command says is shown when it fails.
timed() {
  local start end
  start=$(now)
  "$@" >"$work/log" 2>&1 </dev/null || { cat "$work/log" >&2; return 1; }
  end=$(now)
  echo $(((end - start) / 1000))
}

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

# measure TOOL: build_TOOL builds $work/src-TOOL; clean_TOOL empties its state first.
measure() {
  local tool=$1 cold unchanged line i
  fresh "$tool"
  "clean_$tool"
  cold=$(timed "build_$tool") || { echo "$tool: failed, left out" >&2; return; }
  unchanged=$(for _ in $(seq "$runs"); do timed "build_$tool"; done | median)
  line=$(for i in $(seq "$runs"); do edit "$tool" "$i"; timed "build_$tool"; done | median)
  echo "$tool $cold $unchanged $line" >>"$work/results"
}

clean_go() { mkdir -p "$work/go"; }
build_go() (
  cd "$work/src-go"
  GOCACHE=$work/go/build GOMODCACHE=$work/go/mod GOFLAGS="$(go env GOFLAGS) -modcacherw" CGO_ENABLED=0 GOOS=linux GOARCH=amd64 \
    go build -ldflags '-s -w' -o main .
)

clean_skiff() { mkdir -p "$work/state"; }
build_skiff() { SKIFF_ROOT=$work/state "$work/skiff" build --progress=plain -t bench:skiff "$work/src-skiff"; }

# The others pull their builder image; it is named in a Dockerfile of their own.
other_dockerfile() { sed "s|^FROM golang:[^ ]*|FROM $golang|" "$work/src-$1/Dockerfile" >"$work/Dockerfile-$1"; }

clean_buildah() { other_dockerfile buildah; }
build_buildah() {
  buildah --root "$work/buildah" --runroot "$work/buildah-run" bud --layers --isolation chroot --tls-verify=false \
    -f "$work/Dockerfile-buildah" -t bench:buildah "$work/src-buildah"
}

clean_buildkit() {
  other_dockerfile buildkit
  mkdir -p "$work/dockerfile-buildkit"
  cp "$work/Dockerfile-buildkit" "$work/dockerfile-buildkit/Dockerfile"
  buildctl prune --all >/dev/null
}
build_buildkit() {
  buildctl build --frontend dockerfile.v0 --local context="$work/src-buildkit" --local dockerfile="$work/dockerfile-buildkit" \
    --output type=oci,dest="$work/buildkit.tar"
}

# peak PID: the high-water marks of the process and its descendants that are skiff itself, in kB, as long as it runs.
peak() {
  local pid=$1 p mark sum best=0
  while kill -0 "$pid" 2>/dev/null; do
    sum=0
    for p in $pid $(descendants "$pid"); do
      case $(readlink "/proc/$p/exe" 2>/dev/null) in
        "$work/skiff" | *memfd:*)
          mark=$(awk '/^VmHWM/ {print $2}' "/proc/$p/status" 2>/dev/null || true)
          sum=$((sum > ${mark:-0} ? sum : ${mark:-0})) # of the largest of them
          ;;
      esac
    done
    best=$((best > sum ? best : sum))
    sleep 0.05
  done
  echo "$best"
}

descendants() {
  local c
  for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
    echo "$c"
    descendants "$c"
  done
}

memory() {
  SKIFF_ROOT=$work/state "$work/skiff" build --no-cache -q -t bench:skiff "$work/src-skiff" >/dev/null 2>&1 </dev/null &
  peak $!
}

CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/skiff" ./cmd/skiff
measure go
measure skiff
if command -v buildah >/dev/null; then measure buildah; fi
if command -v buildctl >/dev/null && [ -n "${BUILDKIT_HOST:-}" ]; then measure buildkit; fi

awk '
  BEGIN {printf "%-10s %16s %16s %16s\n", "", "cold", "unchanged", "one line"}
  NR == 1 {for (i = 2; i <= 4; i++) base[i] = $i > 0 ? $i : 1}
  {printf "%-10s", $1; for (i = 2; i <= 4; i++) printf " %8.3f s %4.1fx", $i / 1000, $i / base[i]; print ""}
' "$work/results"
awk '$1 == "go" {go = $4} $1 == "skiff" {
  printf "unchanged: %d ms, the mark is 150 ms\n", $3
  printf "one line: %.2f times plain go build, the mark is 1.5\n", $4 / go
}' "$work/results"
printf 'memory: %d MB in the largest process of skiff, the mark is 100 MB\n' $(($(memory) / 1000))
printf 'binary: %.1f MB, stripped and static, the mark is 32 MB\n' "$(stat -c %s "$work/skiff" | awk '{print $1 / 1e6}')"
