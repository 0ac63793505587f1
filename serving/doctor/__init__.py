"""`groundtune doctor`: what this machine and this run lack, with a fix for each fault."""
