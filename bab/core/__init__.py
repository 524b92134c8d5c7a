"""The core: five contracts, one trainer, one record format. It names no plugin."""
