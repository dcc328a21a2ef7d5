"""FBR for a LightningModule: the mixin, and capture for modules that cannot be edited."""
