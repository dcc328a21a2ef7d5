"""Stages as functions over folders."""
