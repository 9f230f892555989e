#!/bin/sh
# Installs skiff from its releases:
#
#   sh install.sh [--version vX.Y.Z] [--dir FOLDER] [--dry-run]
#
# The archive's SHA-256 is compared with that in the release's checksums.txt before anything of it is used. As root skiff goes to
# /usr/local/bin, else to ~/.local/bin; man pages and completions go to share beside it. Nothing else is changed, and nothing is left
# behind where a step fails. SKIFF_RELEASES names another place of the releases: URL/download/vX.Y.Z/FILE, URL/latest/download/FILE.
set -eu

releases=${SKIFF_RELEASES:-https://github.com/skiff-build/skiff/releases}

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

# fetch URL FILE
fetch() {
  if command -v curl >/dev/null 2>&1; then
    curl -fsSL --retry 3 -o "$2" "$1" || fail "cannot download $1"
  elif command -v wget >/dev/null 2>&1; then
    wget -q -O "$2" "$1" || fail "cannot download $1"
  else
    fail "neither curl nor wget is here"
  fi
}

sha256() {
  if command -v sha256sum >/dev/null 2>&1; then
    sha256sum "$1" | cut -d ' ' -f 1
  elif command -v shasum >/dev/null 2>&1; then
    shasum -a 256 "$1" | cut -d ' ' -f 1
  elif command -v openssl >/dev/null 2>&1; then
    openssl dgst -sha256 -r "$1" | cut -d ' ' -f 1
  else
    fail "neither sha256sum nor shasum nor openssl is here to check the archive with"
  fi
}

system() {
  os=$(uname -s) machine=$(uname -m)
  case $os in
    Linux) os=linux ;;
    Darwin) os=darwin ;;
    *) fail "there is no release for $os; for Windows there is a zip archive at $releases" ;;
  esac
  case $machine in
    x86_64 | amd64) machine=amd64 ;;
    aarch64 | arm64) machine=arm64 ;;
    riscv64 | s390x | ppc64le) ;;
    *) fail "there is no release for $os on $machine" ;;
  esac
  echo "${os}_$machine"
}

main() {
  version= dir= dry=
  while [ $# -gt 0 ]; do
    case $1 in
      --version) [ $# -gt 1 ] || fail "--version: the version is missing"; version=$2; shift ;;
      --version=*) version=${1#*=} ;;
      --dir) [ $# -gt 1 ] || fail "--dir: the folder is missing"; dir=$2; shift ;;
      --dir=*) dir=${1#*=} ;;
      --dry-run) dry=1 ;;
      *) fail "unknown argument $1: there are --version, --dir and --dry-run" ;;
    esac
    shift
  done
  if [ -z "$dir" ]; then
    if [ "$(id -u)" = 0 ]; then
      dir=/usr/local/bin
    else
      dir=${HOME:?}/.local/bin
    fi
  fi
  system=$(system)
  if [ -n "$version" ]; then
    from=$releases/download/v${version#v}
  else
    from=$releases/latest/download
  fi
  temp=$(mktemp -d)
  trap 'rm -rf "$temp"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  fetch "$from/checksums.txt" "$temp/checksums.txt"
  # Its name has the version, which is how the latest one is known.
  line=$(grep "  skiff_[^/]*_$system\.tar\.gz\$" "$temp/checksums.txt" | head -n 1)
  [ -n "$line" ] || fail "$from has no archive for $system"
  want=${line%% *} archive=${line##* }
  if [ -n "$version" ] && [ "$archive" != "skiff_${version#v}_$system.tar.gz" ]; then
    fail "$from/checksums.txt is that of another version: it has $archive"
  fi
  fetch "$from/$archive" "$temp/$archive"
  got=$(sha256 "$temp/$archive")
  [ "$got" = "$want" ] || fail "$archive has the SHA-256 $got, and checksums.txt says $want: nothing was installed"
  mkdir "$temp/files"
  tar -xzf "$temp/$archive" -C "$temp/files" || fail "cannot unpack $archive"
  "$temp/files/skiff" version >/dev/null || fail "the skiff of $archive does not start here"
  share=$(dirname "$dir")/share
  if [ -n "$dry" ]; then
    echo "would install $("$temp/files/skiff" version) to $dir/skiff"
    return
  fi
  mkdir -p "$dir" || fail "cannot make $dir; name another folder by --dir"
  # By a rename: a skiff that runs goes on, and none is there half.
  cp "$temp/files/skiff" "$dir/.skiff.$$" && chmod 755 "$dir/.skiff.$$" && mv -f "$dir/.skiff.$$" "$dir/skiff" ||
    { rm -f "$dir/.skiff.$$"; fail "cannot write to $dir; name another folder by --dir"; }
  # What the shells and man look for. Without it skiff works as well.
  { mkdir -p "$share/man/man1" && cp "$temp/files/man/"* "$share/man/man1/" &&
    mkdir -p "$share/bash-completion/completions" && cp "$temp/files/completions/skiff.bash" "$share/bash-completion/completions/skiff" &&
    mkdir -p "$share/zsh/site-functions" && cp "$temp/files/completions/_skiff" "$share/zsh/site-functions/_skiff" &&
    mkdir -p "$share/fish/vendor_completions.d" && cp "$temp/files/completions/skiff.fish" "$share/fish/vendor_completions.d/skiff.fish"; } ||
    echo "install.sh: man pages and completions could not be written to $share" >&2
  echo "installed $("$dir/skiff" version) to $dir/skiff"
  case :$PATH: in
    *:"$dir":*) ;;
    *) echo "$dir is not in PATH" ;;
  esac
}

main "$@"
