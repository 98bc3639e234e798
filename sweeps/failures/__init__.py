"""What happens when a run fails: the causes and their policies, its attempts, the handling in a worker."""
