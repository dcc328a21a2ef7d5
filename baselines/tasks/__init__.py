"""What the baselines' LightningModules share."""
