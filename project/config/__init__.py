"""The settings: how one is declared, how all are read, and those of the kernel itself."""
