#!/usr/bin/env bash
# Installs what tests/slurm needs, where that is missing, this is Debian or Ubuntu, and we are root. Otherwise does nothing:
# those tests then say why they are skipped (or fail, with SLURM_TESTS=require). Never fails itself.
set -u
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing() {
	for program in slurmctld slurmd sbatch slurmdbd munged mariadbd; do
		command -v "$program" >/dev/null || return 0
	done
	return 1
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

echo "Installing Slurm for tests/slurm"
packages=$(sed -n 's/^PACKAGES = "\(.*\)"$/\1/p' "$(dirname "$0")/../tests/support/real_cluster.py")
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # several words
if ! { apt-get update -qq && apt-get install -qq --no-install-recommends $packages; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "warning: could not install Slurm (apt's words are above): tests/slurm cannot run" >&2
fi
exit 0
