"""Where runs run: this process, worker processes of this machine, or Slurm."""
