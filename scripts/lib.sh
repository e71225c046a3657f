# shellcheck shell=bash
# Functions for the set-up scripts, to be sourced. Each step prints one line, and the time that it took.

say() { printf '%s\n' "$*"; }

# fail MESSAGE: prints one sentence and exits with status 1.
fail() {
  printf 'code-interpreter: %s\n' "$*" >&2
  exit 1
}

# step DESCRIPTION COMMAND...: prints the description, runs the command, and prints how long it took.
# The command runs as a condition, where `set -e` has no effect. So functions must use `|| return`.
step() {
  local description=$1 started=$SECONDS
  shift
  say "== $description"
  "$@" || return
  say "== $description: done in $((SECONDS - started)) s"
}

# logged LOG PATTERN COMMAND...: writes a command's output to a file and shows the lines that match, as progress. If the
# command fails, the end of the file is shown as well.
logged() {
  local log=$1 pattern=$2 status=0
  shift 2
  mkdir -p "$(dirname "$log")"
  "$@" </dev/null 2>&1 | tee "$log" | { grep --line-buffered -E -e "$pattern" || true; } | cut -c1-100 || status=$?
  if [ "$status" -ne 0 ]; then
    tail -n 25 "$log" >&2
    say "   the whole output is in $log" >&2
  fi
  return "$status"
}

# can_apt: succeeds if this user can install Debian packages.
can_apt() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE...: installs Debian packages without recommended ones. Concurrent calls wait for each other.
apt_install() {
  local apt=(flock --close /run/lock/code-interpreter-apt apt-get -o Acquire::Retries=3)
  export DEBIAN_FRONTEND=noninteractive
  # The installation may succeed with an old package list, or if one of several sources cannot be reached.
  logged .cache/apt.log '^$' "${apt[@]}" update || true
  logged .cache/apt.log '^(Unpacking|Setting up)' "${apt[@]}" install -y --no-install-recommends "$@"
}
