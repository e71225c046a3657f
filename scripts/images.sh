# shellcheck shell=bash
# Functions for building images, to be sourced after lib.sh: the engine's machine type, base images, wheels.
# The caller sets CACHE, a folder for logs.

DEBIAN_BASE=code-interpreter-base:bookworm

# The machine type of the engine, which may differ from that of this machine. The wheels must fit it.
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
  fail "no Python with pip was found to fetch the wheels; use make, which installs one."
}

# fetch_wheels MACHINE LOCK FOLDER: downloads the wheels of a lock file and checks their hashes.
fetch_wheels() {
  local arch=$1 lock=$2 folder=$3 python platforms=() minor
  python=$(python_with_pip)
  for minor in $(seq 5 36); do platforms+=(--platform "manylinux_2_${minor}_$arch"); done
  mkdir -p "$folder"
  # Of odfpy there are only sources.
  logged "$CACHE/pip.log" '^ *Downloading' \
    "$python" -m pip --disable-pip-version-check download --no-cache-dir --no-deps --require-hashes --only-binary=:all: --no-binary=odfpy \
    --python-version 3.11 --implementation cp "${platforms[@]}" --platform "manylinux2014_$arch" \
    --progress-bar off --dest "$folder" --requirement "$lock"
}

# prune_wheels LOCK FOLDER: removes files that are not in the lock file.
prune_wheels() {
  local lock=$1 folder=$2 sum file
  (cd "$folder" && sha256sum -- *) | while read -r sum file; do
    grep -q "sha256:$sum" "$lock" || rm -f -- "$folder/$file"
  done
}

has_dpkg() { docker run --rm --network none "$BASE" test -e /var/lib/dpkg/status; }

# fetch_packages FOLDER NAME...: downloads Debian packages that the image BASE lacks, with those that they need. For a base that
# was made here this machine does it, with the base's list of installed packages; otherwise a container of the base.
fetch_packages() {
  local folder=$1 apt
  shift
  mkdir -p "$folder"
  if [ "$BASE" != "$DEBIAN_BASE" ]; then
    # shellcheck disable=SC2016 a script of the container
    docker run --rm "$BASE" sh -c '{ apt-get -o Acquire::Retries=3 update && mkdir /debs &&
      apt-get -o Dir::Cache::archives=/debs install -y --no-install-recommends --download-only "$@"; } >&2 &&
      cd /debs && tar -c *.deb' sh "$@" 2>"$CACHE/apt.log" | tar -x -C "$folder"
    return
  fi
  docker run --rm --network none "$BASE" cat /var/lib/dpkg/status >"$CACHE/status" || return
  apt=(apt-get -o "Dir::State::status=$PWD/$CACHE/status" -o Debug::NoLocking=1 -o "Dir::Cache::archives=$PWD/$folder"
    -o APT::Sandbox::User=root -o Acquire::Retries=3 install -y --no-install-recommends --download-only)
  logged "$CACHE/apt.log" '^Get:' "${apt[@]}" "$@" ||
    { logged "$CACHE/apt.log" '^$' apt-get -o Acquire::Retries=3 update || true
      logged "$CACHE/apt.log" '^Get:' "${apt[@]}" "$@"; } ||
    return
  rm -rf "$folder/partial" "$folder/lock"
}

# pull IMAGE: pulls an image. Where no registry can be reached, this may take until the timeout.
pull() {
  say "== Pull $1"
  timeout 300 docker pull "$1" >"$CACHE/pull.log" 2>&1
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# label IMAGE NAME: prints a label of an image; nothing if the image or the label is missing.
label() { docker image inspect --format "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true; }

# Prints the Debian mirrors of this machine, if it runs the same Debian release.
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

# Sets BASE to the base image: BASE_IMAGE if that is set, else python:3.11-slim or a Debian base.
choose_base() {
  local wanted=${BASE_IMAGE:-python:3.11-slim}
  if has_image "$wanted"; then
    BASE=$wanted
  elif [ -z "${BASE_IMAGE:-}" ] && has_image "$DEBIAN_BASE"; then
    BASE=$DEBIAN_BASE
  elif pull "$wanted"; then
    BASE=$wanted
  elif [ -n "${BASE_IMAGE:-}" ]; then
    fail "the base image $BASE_IMAGE is missing and cannot be pulled: $(tail -n 1 "$CACHE/pull.log")"
  elif can_bootstrap; then
    say "   it cannot be pulled; a Debian base is made instead"
    step "Make a Debian base with Python 3.11" bootstrap_base
    BASE=$DEBIAN_BASE
  else
    fail "$wanted cannot be pulled, and a base image can only be made as root on Debian or Ubuntu;" \
      "load an image with Python 3.11 and set BASE_IMAGE to its name."
  fi
}

# build_as IMAGE ARGUMENT...: runs docker build. The previous image of this name is removed, unless it has another name
# or is in use.
build_as() {
  local image=$1 previous
  shift
  previous=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || true)
  # Every engine has the classic builder, and that never looks for a local base image in a registry.
  export DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0}
  logged "$CACHE/build.log" '^Step|^#[0-9]+ \[' docker build --force-rm --tag "$image" "$@" || return
  if [ "$(docker image inspect --format '{{len .RepoTags}}' "${previous:-none}" 2>/dev/null)" = 0 ]; then
    docker image rm "$previous" >/dev/null 2>&1 || true
  fi
  say "   $image: $(($(docker image inspect --format '{{.Size}}' "$image") / 1000000)) MB"
}

# Prints the version of this project.
version() { sed -n 's/^__version__ = "\(.*\)"$/\1/p' service/__init__.py 2>/dev/null || true; }
