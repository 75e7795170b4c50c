"""What is yours: sources, cleaning SQL, contracts, feature SQL, the model and its gates."""
