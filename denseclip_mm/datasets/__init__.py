"""Datasets of the package."""

from denseclip_mm.datasets.scenes import SceneBackend, ScenesDataset

__all__ = ['SceneBackend', 'ScenesDataset']
