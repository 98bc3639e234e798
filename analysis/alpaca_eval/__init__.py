"""AlpacaEval's annotations and what is computed from them: win rates, length control, integrity."""
