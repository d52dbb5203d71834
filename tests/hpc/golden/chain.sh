#!/bin/bash
#SBATCH --time=30
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --no-requeue
#SBATCH '--chdir=/runs/it'"'"'s a "run" & more/$HOME/tokens'
#SBATCH '--output=/runs/it'"'"'s a "run" & more/$HOME/tokens/.run/chain.log'
#SBATCH --open-mode=append
#SBATCH --partition=big
#SBATCH --account=speech
#SBATCH --qos=high
module load python
exec /PYTHON -u /CODE/jobs/run_module.py hpc.chain '/runs/it'"'"'s a "run" & more/$HOME/tokens'
