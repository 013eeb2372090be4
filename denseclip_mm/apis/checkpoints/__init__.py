"""Checkpoints: loaded whole or not at all, resumed, converted from published ones, exported."""
