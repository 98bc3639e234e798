"""The numbers: win rates, paired tests, intervals and the verdict; importing it never imports torch."""
