"""The losses as pure functions of log-probabilities, and the registry of methods with their options."""
