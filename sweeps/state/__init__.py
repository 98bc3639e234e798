"""A launched sweep as its files show it now: states, table of runs, judgements, times."""
