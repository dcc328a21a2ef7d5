"""The console script `fbr-plugin`: the parser, and a file a command."""
