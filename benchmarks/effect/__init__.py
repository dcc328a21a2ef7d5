"""The effect of FBR on seeds, measured in paired runs."""
