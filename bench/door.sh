#!/usr/bin/env bash
# Builds images of Go packages without a Dockerfile: by skiff, beside it by ko where it is installed, and by plain `go build`, which
# makes the binaries alone. One program (examples/slackbot) and a module of 20 main packages that share one; unchanged, one line
# changed, and a shared package changed. The tools take turns; medians, and ratios to plain go build of the same run.
#
#   bench/door.sh [RUNS]      RUNS of each (default 7)
#   KO=PATH                   ko (default: the one in PATH): GOBIN=FOLDER go install github.com/google/ko@v0.19.1
#   KO_BASE=IMAGE             the base that ko builds on, in a registry that answers (default ko's own)
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-7}
ko=${KO:-$(command -v ko || true)}
work=$(mktemp -d "${TMPDIR:-/tmp}/skiff-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
export SKIFF_ROOT=$work/state KO_DOCKER_REPO=ko.local GOFLAGS=-buildvcs=false
[ -z "${KO_BASE:-}" ] || export KO_DEFAULTBASEIMAGE=$KO_BASE
arch=$(go env GOARCH)

now() { echo "${EPOCHREALTIME/[.,]/}"; } # microseconds
timed() {
  local start end
  start=$(now)
  "$@" >"$work/log" 2>&1 </dev/null || { cat "$work/log" >&2; return 1; }
  end=$(now)
  echo $(((end - start) / 1000))
}
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

# Each tool has sources of its own, so that none finds what another has just read.
build_go() (cd "$work/$1-go" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/bin-$1/" ./...)
build_skiff() (cd "$work/$1-skiff" && "$work/skiff" build -q -t bench/ ./...)
build_ko() (cd "$work/$1-ko" && "$ko" build --push=false --oci-layout-path "$work/layout" --platform "linux/$arch" ./... >/dev/null)

edit() { # edit DIR FILE N: another number in the line that is there for it
  grep -q 'bench[0-9]*"' "$1/$2" || { echo "$2: no line to change" >&2; return 1; }
  sed -i "s/bench[0-9]*\"/bench$3\"/" "$1/$2"
}

mkdir -p "$work/one"
cp -r examples/slackbot/. "$work/one/"
rm -f "$work/one/Dockerfile"
sed -i 's/"pong"/"bench0"/' "$work/one/bot.go"
mkdir -p "$work/many/shared"
printf 'module example.com/many\n\ngo 1.24\n' >"$work/many/go.mod"
printf 'package shared\n\nimport "net/http"\n\nvar Name = "bench0"\n\nfunc Get() string {\n\tr, err := http.Get("https://example.com/" + Name)\n\tif err != nil {\n\t\treturn err.Error()\n\t}\n\treturn r.Status\n}\n' >"$work/many/shared/shared.go"
for i in $(seq 20); do
  mkdir -p "$work/many/cmd/app$i"
  printf 'package main\n\nimport "example.com/many/shared"\n\nvar name = "bench0"\n\nfunc main() { println(name, shared.Get()) }\n' >"$work/many/cmd/app$i/main.go"
done

tools="go skiff"
[ -z "$ko" ] || tools="$tools ko"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/skiff" ./cmd/skiff

# scenario NAME PROJECT FILE: FILE is changed before each build; "" for nothing.
scenario() {
  local name=$1 project=$2 file=$3 i t
  rm -f "$work"/t-*
  for i in $(seq "$runs"); do
    for t in $tools; do
      [ -z "$file" ] || edit "$work/$project-$t" "$file" "$RANDOM$i"
      timed "build_$t" "$project" >>"$work/t-$t" || { echo "$t failed: $name" >&2; return 1; }
    done
  done
  local go
  go=$(median <"$work/t-go")
  printf '%-34s' "$name"
  for t in $tools; do
    awk -v t="$t" -v ms="$(median <"$work/t-$t")" -v go="$go" 'BEGIN {printf " %6s %7.3f s %5.2fx", t, ms / 1000, ms / (go > 0 ? go : 1)}'
  done
  echo
}

for project in one many; do
  for t in $tools; do
    cp -r "$work/$project" "$work/$project-$t"
    mkdir -p "$work/bin-$project"
    timed "build_$t" "$project" >/dev/null
  done
done
scenario "one program, nothing changed" one ""
scenario "one program, one line" one bot.go
scenario "20 programs, nothing changed" many ""
scenario "20 programs, one of them" many cmd/app7/main.go
scenario "20 programs, a shared package" many shared/shared.go
