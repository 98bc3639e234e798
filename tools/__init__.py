"""What helps to build the project; not part of the wheel."""
