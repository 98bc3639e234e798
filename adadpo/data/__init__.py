"""Preference pairs: read and checked, turned into token ids, put into batches."""
