"""Teams and keys: the directory, and the operations that change it."""
