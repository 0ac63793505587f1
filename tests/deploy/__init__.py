"""The files of deploy/, checked without deploying them."""
