"""What an index of so many images takes, by formula: bytes by family, and everything else from measured coefficients."""
