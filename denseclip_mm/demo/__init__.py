"""Procedural scenes and the small CLIP that knows them: data to try the package on."""

from denseclip_mm.demo.scenes import SceneBackend, ScenesDataset

__all__ = ['SceneBackend', 'ScenesDataset']
