"""The platform: it runs the life cycle of any project that keeps the contract in contract.py."""
