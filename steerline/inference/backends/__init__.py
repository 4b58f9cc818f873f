"""Who writes the text: one file for each kind of backend."""
