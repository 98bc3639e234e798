"""Where runs are executed: in this process, in local worker processes, or on Slurm."""
