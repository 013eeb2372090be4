"""Image towers: four feature maps and, beside them, the image in CLIP's embedding space."""

from denseclip_mm.backbones.aligned import AlignedBackbone
from denseclip_mm.backbones.pool import DenseAttentionPool
from denseclip_mm.backbones.resnet import CLIPResNet
from denseclip_mm.backbones.timm_tower import CLIPTIMMBackbone
from denseclip_mm.backbones.vit import CLIPVisionTransformer

__all__ = [
    'AlignedBackbone',
    'CLIPResNet',
    'CLIPTIMMBackbone',
    'CLIPVisionTransformer',
    'DenseAttentionPool'
]
