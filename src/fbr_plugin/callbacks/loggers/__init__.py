"""What loggers receive, and that training survives them."""
