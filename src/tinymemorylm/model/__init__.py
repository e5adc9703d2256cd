"""The architecture. Read attention, block, mtp, transformer, in this order."""
