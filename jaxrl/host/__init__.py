"""The host side of a run: files, clocks, prints and processes."""
