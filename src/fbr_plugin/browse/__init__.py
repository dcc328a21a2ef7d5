"""`fbr-plugin browse`: a static page that shows the results of runs side by side."""
