# shellcheck shell=bash
# Helpers for the set-up scripts, to be sourced: one short line for each step, with the time it took.

say() { printf '%s\n' "$*"; }

# fail MESSAGE: one clear sentence, and out.
fail() {
  printf 'code-interpreter: %s\n' "$*" >&2
  exit 1
}

# step DESCRIPTION COMMAND...: announces a command, runs it, and says how long it took.
# The command runs as a condition, where `set -e` does not hold: a function says `|| return` itself.
step() {
  local description=$1 started=$SECONDS
  shift
  say "== $description"
  "$@" || return
  say "== $description: done in $((SECONDS - started)) s"
}

# logged LOG PATTERN COMMAND...: sends a command's output to a file and shows the lines that match, so that a long step
# is seen to move. When the command fails, the end of the file is shown too.
logged() {
  local log=$1 pattern=$2 status=0
  shift 2
  mkdir -p "$(dirname "$log")"
  "$@" </dev/null 2>&1 | tee "$log" | { grep --line-buffered -E -e "$pattern" || true; } | cut -c1-100 || status=$?
  if [ "$status" -ne 0 ]; then
    tail -n 25 "$log" >&2
    say "   all of it is in $log" >&2
  fi
  return "$status"
}

# can_apt: whether this user may install Debian packages here.
can_apt() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE...: installs Debian packages without the ones they only recommend. Others that do so wait.
apt_install() {
  local apt=(flock --close /run/lock/code-interpreter-apt apt-get -o Acquire::Retries=3)
  export DEBIAN_FRONTEND=noninteractive
  # An old list, or one unreachable source among many, may still do.
  logged .cache/apt.log '^$' "${apt[@]}" update || true
  logged .cache/apt.log '^(Unpacking|Setting up)' "${apt[@]}" install -y --no-install-recommends "$@"
}
