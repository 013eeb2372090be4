"""Datasets of the package."""

from denseclip_mm.datasets.scenes import ScenesDataset

__all__ = ['ScenesDataset']
