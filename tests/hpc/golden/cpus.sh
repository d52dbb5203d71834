#!/bin/bash

# Parameters
#SBATCH --array=0-3%4
#SBATCH --chdir=/runs/tokens/.run/submissions/0003
#SBATCH --cpus-per-task=1
#SBATCH --job-name=t-0003
#SBATCH --mem=2G
#SBATCH --no-requeue
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --open-mode=append
#SBATCH --output=/runs/tokens/.run/submissions/0003/logs/%A_%a_0_log.out
#SBATCH --signal=USR2@0
#SBATCH --time=1

# setup
printf -v job_started '%(%s)T' -1

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /runs/tokens/.run/submissions/0003/logs/%A_%a_%t_log.out --kill-on-bad-exit=0 --wait=0 --cpus-per-task=1 /PYTHON -u /CODE/jobs/run_module.py hpc.task /runs/tokens/.run/submissions/0003/plan.json --elements 4 --started "$job_started"
