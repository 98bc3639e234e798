"""The page about two annotation files, `adadpo compare A.json B.json`."""
