"""Data of a user's own: what is wrong with them, before training."""

from denseclip_mm.datasets.check import check_split
from denseclip_mm.datasets.coco import check_annotations
from denseclip_mm.datasets.report import Report

__all__ = ['Report', 'check_annotations', 'check_split']
