"""The options of all commands: their parser, what it says of a mistake, and the names of our YAML files."""
