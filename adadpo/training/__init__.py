"""One training run through TRL: arguments, trainer, reference pass, checkpoints, several processes."""
