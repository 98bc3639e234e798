"""What a worker does with a run: its stages, what runs share, several processes, progress."""
