"""Does the shipped verdict hold its level? Simulated sweeps through the code that analyses real ones."""
