"""Regions of a picture, and which name each of them has."""

from denseclip_mm.apis.regions.assign import assign_regions

__all__ = ['assign_regions']
