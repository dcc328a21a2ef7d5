"""Kill `fit` and `pipeline` at random moments, resume them, and compare what they made, bit for bit."""
