#!/bin/bash

# Parameters
#SBATCH --account=speech
#SBATCH --array=0-24%7
#SBATCH --chdir='/runs/it'"'"'s a "run" & more/$HOME/tokens/.run/submissions/0003'
#SBATCH --comment='it'"'"'s odd'
#SBATCH --constraint='a100&nvlink'
#SBATCH --cpus-per-task=8
#SBATCH --exclude=n9,n1,n2
#SBATCH --exclusive
#SBATCH --gpus-per-node=a100:4
#SBATCH --job-name=tar2tokens-ab-0003
#SBATCH --mem-per-gpu=40G
#SBATCH --no-requeue
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output='/runs/it'"'"'s a "run" & more/$HOME/tokens/.run/submissions/0003/logs/%A_%a_0_log.out'
#SBATCH --partition=big,small
#SBATCH --qos=high
#SBATCH --signal=USR2@120
#SBATCH --time=240

# setup
printf -v job_started '%(%s)T' -1
module load cuda/12
echo "on $(hostname)"

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output '/runs/it'"'"'s a "run" & more/$HOME/tokens/.run/submissions/0003/logs/%A_%a_%t_log.out' --kill-on-bad-exit=0 --wait=0 --cpus-per-task=8 /PYTHON -u /CODE/jobs/run_module.py hpc.task '/runs/it'"'"'s a "run" & more/$HOME/tokens/.run/submissions/0003/plan.json' --elements 25 --started "$job_started"
