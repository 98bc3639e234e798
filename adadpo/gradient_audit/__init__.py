"""Measures the gradients of chosen and rejected responses, for the gradient audit."""
