"""Responses of a policy to prompts, and the KL divergence from the reference on them."""
