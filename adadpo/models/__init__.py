"""Models and tokenizers: built-in, from a folder or the hub; the policy and the reference of a run."""
