"""The command line: one file for each group of commands, no work of their own."""
