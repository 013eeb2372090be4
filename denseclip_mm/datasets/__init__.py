"""Data of a user's own: what is wrong with them, before training."""

from denseclip_mm.datasets.check import Report, check_split

__all__ = ['Report', 'check_split']
