"""Statistics over single prompts: bootstrap, paired comparison of two files, flipped prompts."""
