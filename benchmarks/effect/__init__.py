"""What FBR does to seeds, measured in paired runs."""
