"""Settings and scripts to start from, which come with the package as `fbr_plugin.examples`."""
