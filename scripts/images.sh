# shellcheck shell=bash
# What building an image takes on any machine, to be sourced after lib.sh: an engine's machine type, a base, wheels.
# The caller sets CACHE, a folder for logs.

DEBIAN_BASE=code-interpreter-base:bookworm

# The wheels must fit the engine's machine, not the one this script runs on.
machine() {
  case $(docker version --format '{{.Server.Arch}}') in
    amd64) echo x86_64 ;;
    arm64) echo aarch64 ;;
    *) uname -m ;;
  esac
}

python_with_pip() {
  local candidate
  for candidate in .venv/bin/python "${PYTHON:-python3.11}" python3; do
    if "$candidate" -m pip --version >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  fail "no Python with pip found to fetch the wheels; run this by make."
}

# fetch_wheels MACHINE LOCK FOLDER: what the lock file names, each with its hash.
fetch_wheels() {
  local arch=$1 lock=$2 folder=$3 python platforms=() minor
  python=$(python_with_pip)
  for minor in $(seq 5 36); do platforms+=(--platform "manylinux_2_${minor}_$arch"); done
  mkdir -p "$folder"
  logged "$CACHE/pip.log" '^ *Downloading' \
    "$python" -m pip --disable-pip-version-check download --no-cache-dir --no-deps --require-hashes --only-binary=:all: \
    --python-version 3.11 --implementation cp "${platforms[@]}" --platform "manylinux2014_$arch" \
    --progress-bar off --dest "$folder" --requirement "$lock"
}

# prune_wheels LOCK FOLDER: removes what an older lock, or another machine, left behind.
prune_wheels() {
  local lock=$1 folder=$2 sum file
  (cd "$folder" && sha256sum -- *.whl) | while read -r sum file; do
    grep -q "sha256:$sum" "$lock" || rm -f -- "$folder/$file"
  done
}

# It fails at once, or after a while, where no registry is reached: no more than the end of a log then.
pull() {
  say "== Pull $1"
  timeout 300 docker pull "$1" >"$CACHE/pull.log" 2>&1
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# label IMAGE NAME: nothing if there is no such image or label.
label() { docker image inspect --format "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true; }

# Debian's packages from the mirrors that this machine uses, if it is a Debian of the same release.
mirrors() {
  if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release 2>/dev/null; then
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian'
  fi
}

debootstrap() {
  local sources leave_out='--dpkgopt=path-exclude=/usr/share'
  mapfile -t sources < <(mirrors)
  mmdebstrap --quiet --variant=minbase --format=tar --include=python3,python3-distutils,ca-certificates,tzdata \
    "$leave_out/doc/*" "$leave_out/man/*" "$leave_out/info/*" "$leave_out/locale/*" "$leave_out/lintian/*" \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/* "$1"/var/log/*' \
    bookworm - "${sources[@]}"
}

bootstrap_base() {
  debootstrap 2>"$CACHE/base.log" | docker import --change 'CMD ["bash"]' - "$DEBIAN_BASE" >/dev/null ||
    fail "the Debian base could not be made: $(tail -n 1 "$CACHE/base.log")"
}

can_bootstrap() {
  if ! command -v mmdebstrap >/dev/null && can_apt; then
    step "Install mmdebstrap" apt_install mmdebstrap || true
  fi
  [ "$(id -u)" -eq 0 ] && command -v mmdebstrap >/dev/null
}

# Sets BASE: what the image is built on, BASE_IMAGE if that is set.
choose_base() {
  local wanted=${BASE_IMAGE:-python:3.11-slim}
  if has_image "$wanted"; then
    BASE=$wanted
  elif [ -z "${BASE_IMAGE:-}" ] && has_image "$DEBIAN_BASE"; then
    BASE=$DEBIAN_BASE
  elif pull "$wanted"; then
    BASE=$wanted
  elif [ -n "${BASE_IMAGE:-}" ]; then
    fail "the base image $BASE_IMAGE is not here and can't be pulled: $(tail -n 1 "$CACHE/pull.log")"
  elif can_bootstrap; then
    say "   can't be pulled from here; a Debian base will do"
    step "Make a Debian base with Python 3.11" bootstrap_base
    BASE=$DEBIAN_BASE
  else
    fail "$wanted can't be pulled and no base can be made here (that takes root on Debian or Ubuntu, for mmdebstrap);" \
      "load an image with Python 3.11 and name it in BASE_IMAGE."
  fi
}

# build_as IMAGE ARGUMENT...: docker build; the image that had this name until now goes, unless it has another one or
# is in use.
build_as() {
  local image=$1 previous
  shift
  previous=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || true)
  # The classic builder: it is there in every engine, and never looks for a local base image in a registry.
  export DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0}
  logged "$CACHE/build.log" '^Step|^#[0-9]+ \[' docker build --force-rm --tag "$image" "$@" || return
  if [ "$(docker image inspect --format '{{len .RepoTags}}' "${previous:-none}" 2>/dev/null)" = 0 ]; then
    docker image rm "$previous" >/dev/null 2>&1 || true
  fi
  say "   $image: $(($(docker image inspect --format '{{.Size}}' "$image") / 1000000)) MB"
}

# The version of this project.
version() { sed -n 's/^__version__ = "\(.*\)"$/\1/p' service/__init__.py 2>/dev/null || true; }
