"""Statistics over the grid: its best setting, groups of settings, the claims of the paper."""
