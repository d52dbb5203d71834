#!/usr/bin/env bash
# Installs what tests need of the system, Slurm for tests/slurm, 7-Zip for archives and Chromium for reports, where that is
# missing, this is Debian or Ubuntu, and we are root. Otherwise does nothing: tests of Slurm and of reports then say why they
# are skipped (or fail, with SYSTEM_TESTS=require), and those of 7-Zip fail. Never fails itself.
set -u
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing() {
	for program in slurmctld slurmd sbatch slurmdbd munged mariadbd; do
		command -v "$program" >/dev/null || return 0
	done
	! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && return 0
	! command -v 7zz >/dev/null && ! command -v 7z >/dev/null
}

missing && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0

# Packages start what they install, unless this file says no; the tests start daemons of their own.
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
ours=$log
trap 'rm -f $ours' EXIT
trap 'exit 130' INT TERM
if [ ! -e "$policy" ]; then
	ours="$log $policy"
	printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
fi

echo "Installing Slurm, 7-Zip and Chromium for tests"
packages="7zip chromium $(sed -n 's/^PACKAGES = "\(.*\)"$/\1/p' "$(dirname "$0")/../tests/support/real_cluster.py")"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # several words
if ! { apt-get update -qq && apt-get install -qq --no-install-recommends $packages; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "warning: could not install Slurm, 7-Zip and Chromium (apt's words are above): their tests cannot run" >&2
fi
exit 0
