"""Scores and exports of folders with the instances of images, `ID.json`."""
